"""The shipped SPViT, on hard `shapes`, and the dense net that it starts from.  python benchmarks/spvit_shipped.py

The dense net is the largest length of the shipped ReViT, a plain ViT that never dropped a token. SPViT is fine-tuned from it to
40 % of its cost for four times as long as in the study (benchmarks/spvit_small.py), then it is calibrated at several budgets.
Finished parts are kept under runs/ and read again, an interrupted one goes on.
Writes data/checkpoints/dense_shapes.safetensors, spvit_shapes.safetensors and data/results/spvit_shipped_points.csv.
"""
import pandas as pd
import spvit_small as study
import torch

import vitlab
from vitlab.measure import write
from vitlab.measure.records import DATA
from vitlab.methods.spvit import Point, calibrate

SEED, STRETCHES = 0, (450, 150)
SHARES = (0.33, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)               # of the dense cost: the budgets it is calibrated at


def main() -> None:
    torch.set_num_threads(1)
    test = vitlab.data.shapes("test", difficulty=study.TEST_DIAL, n=study.TESTED, seed=SEED + 100)
    teacher, net = study.dense(), study.train(SEED, "selector", STRETCHES, out="shipped")
    calibrate(net, study.held_out(SEED), [share * net.work.dense for share in SHARES])
    rows = []
    for point in net.points:
        found = vitlab.answers(net, test, point)
        rows.append({"budget": point.budget, "gmacs": found.gmacs.mean(), "gmacs_sd": found.gmacs.std(),
                     "top1": 100 * found.correct.mean(), "top1_fixed": 100 * vitlab.answers(
                         net, test, Point(point.budget, fixed=True)).correct.mean()})
    table = pd.DataFrame(rows)
    write(table, DATA / "results" / "spvit_shipped_points.csv")
    told = {"difficulty": study.TEST_DIAL, "trained_difficulty": study.DIAL, "seed": SEED}
    plain = 100 * vitlab.answers(teacher, test).correct.mean()
    vitlab.save(teacher, DATA / "checkpoints" / "dense_shapes.safetensors", top1=round(plain, 2), **told,
                made_by="python benchmarks/revit_shipped.py, then python benchmarks/spvit_shipped.py")
    vitlab.save(net, DATA / "checkpoints" / "spvit_shapes.safetensors", **told, steps=sum(STRETCHES), recipe=vars(study.RECIPE),
                top1={f"{row['budget']:.4g} GFLOPs": round(row["top1"], 2) for row in rows},
                made_by="python benchmarks/spvit_shipped.py")
    print(f"dense: {plain:.2f} % at {net.work.dense:.4f} GFLOPs")
    print(table.round(4).to_string(index=False))


if __name__ == "__main__":
    main()

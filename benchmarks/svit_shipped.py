"""The shipped SViT, on hard `shapes`.  python benchmarks/svit_shipped.py

From the shipped dense net it is fine-tuned at k = 0.5 for four times as long as in the study (benchmarks/svit_small.py);
then it is calibrated at several k. Finished parts are kept under runs/ and read again, an interrupted one goes on.
Writes data/checkpoints/svit_shapes.safetensors and data/results/svit_shipped_points.csv.
"""
import pandas as pd
import svit_small as study
import torch

import vitlab
from vitlab.measure import write
from vitlab.measure.records import DATA
from vitlab.methods.svit import Point, calibrate

SEED, STRETCHES = 0, (450, 150)
KEEPS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def main() -> None:
    torch.set_num_threads(1)
    test = vitlab.data.shapes("test", difficulty=study.TEST_DIAL, n=study.TESTED, seed=SEED + 100)
    net = study.train(SEED, "return", STRETCHES, out="shipped")
    calibrate(net, study.held_out(SEED), KEEPS)
    rows = []
    for point in net.points:
        found = vitlab.answers(net, test, point)
        rows.append({"keep": point.keep, "gmacs": found.gmacs.mean(), "gmacs_sd": found.gmacs.std(),
                     "top1": 100 * found.correct.mean(), "top1_fixed": 100 * vitlab.answers(
                         net, test, Point(point.keep, fixed=True)).correct.mean()})
    table = pd.DataFrame(rows)
    write(table, DATA / "results" / "svit_shipped_points.csv")
    vitlab.save(net, DATA / "checkpoints" / "svit_shapes.safetensors", difficulty=study.TEST_DIAL,
                trained_difficulty=study.DIAL, seed=SEED, steps=sum(STRETCHES), recipe=vars(study.RECIPE),
                top1={f"k = {row['keep']:g}": round(row["top1"], 2) for row in rows},
                made_by="python benchmarks/svit_shipped.py")
    print(table.round(4).to_string(index=False))


if __name__ == "__main__":
    main()

"""The shipped ReViT with its assigner: the paper's lengths 14, 10, 7, on hard `shapes`.  python benchmarks/revit_shipped.py

It starts from the plain net that the shipped DVT starts from (crowds are learned after single objects), learns at all lengths,
labels pictures it has not seen, and gets an assigner that learned those labels (about half an hour on one core). Finished parts
are kept under runs/ and read again, an interrupted one goes on. It is judged on test pictures of a seed that no choice has seen.
Writes data/checkpoints/revit_shapes.safetensors, data/results/revit_shipped_labels.csv and ..._assigners.csv.
"""
from dataclasses import replace
from pathlib import Path

import dvt_shipped
import revit_small
import supervit_shipped as long
import torch
from assigning import judge
from finish import finish

import vitlab
from vitlab import lengths
from vitlab.measure import write
from vitlab.measure.records import DATA

RUNS = Path("runs/revit_shipped")
SEED, STEPS, LABELLED = 0, 1800, 12_000
JUDGED = SEED + 100                                         # the seed of the test pictures
UNSOLVED = "largest"                                        # what no length solves are mostly crowds


def train() -> vitlab.ReViT:
    """Every length starts from the plain net at 7x7, its positions resampled."""
    start, whole = dvt_shipped.warm(SEED), vitlab.create("dense", "micro_patch4", num_classes=10)
    dvt_shipped.begin(whole.vit, start.vit, 14)
    torch.manual_seed(SEED)
    net = vitlab.create("revit", "micro_patch4", num_classes=10)
    net.init_from(whole.vit)
    finish(net, long.pictures(long.DIAL, SEED), replace(long.RECIPE, steps=STEPS, seed=SEED), RUNS / "revit")
    return net.eval()


def main() -> None:
    torch.set_num_threads(1)
    net = train()
    unseen = vitlab.data.shapes("train", difficulty=long.TEST_DIAL, n=LABELLED, seed=SEED + revit_small.UNSEEN, augment=True)
    labelled = lengths.make_labels(unseen, lambda _: net, unsolved=UNSOLVED)
    labels = lengths.histogram(labelled.labels, net.lengths[::-1])
    torch.manual_seed(SEED)
    tla, _ = lengths.train_assigner(labelled, replace(revit_small.TLA, seed=SEED), out=RUNS / "assigner")
    table = judge(net, tla, vitlab.data.shapes("test", n=revit_small.JUDGED, difficulty=long.TEST_DIAL, seed=JUDGED))
    write(labels, DATA / "results" / "revit_shipped_labels.csv")
    write(table, DATA / "results" / "revit_shipped_assigners.csv")
    net.attach(tla)
    told = table[table.kind.isin(("fixed", "TLA"))]
    top1 = {name: round(top1, 2) for name, top1 in zip(told.assigner, told.top1, strict=True)}
    vitlab.save(net, DATA / "checkpoints" / "revit_shapes.safetensors", difficulty=long.TEST_DIAL, trained_difficulty=long.DIAL,
                steps=STEPS, warm=long.WARM, recipe=vars(long.RECIPE), pictures=long.PICTURES, seed=SEED, labelled=LABELLED,
                judged=JUDGED, assigner_recipe=vars(revit_small.TLA), top1=top1, made_by="python benchmarks/revit_shipped.py")
    print(labels.round(3).to_string(index=False))
    print(table.drop(columns="kind").round(4).to_string(index=False))


if __name__ == "__main__":
    main()

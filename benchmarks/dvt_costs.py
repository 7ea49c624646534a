"""What leaving at each exit costs, beside DVT's Table 6.  python benchmarks/dvt_costs.py

Counted by fvcore on random weights, with the official upsampling operators, as the paper counts: LayerNorm and resizing included.
Writes data/results/dvt_costs.csv.
"""
import pandas as pd
import torch

import vitlab
from vitlab.measure import audit, paper, parameters, write
from vitlab.measure.records import DATA

REUSE = {"no reuse": (False, False), "features": (True, False), "relations": (False, True), "both": (True, True)}


def main() -> None:
    printed = paper("dvt").query("backbone == 't2t_vit_12'").set_index("variant").gmacs
    image, rows = torch.zeros(1, 3, 224, 224), []
    for name, (features, relations) in REUSE.items():
        nets = [vitlab.create("dense", "t2t_vit_12", grid=7)]
        nets += [vitlab.create("dvt", "t2t_vit_12", grids=grids, features=features, relations=relations, upsample="official")
                 for grids in ((7, 10), (7, 10, 14))]
        rows += [{"backbone": "t2t_vit_12", "reuse": name, "exit": k, "gmacs": audit(net.eval(), image)["total"],
                  "paper": printed[f"{name}: exit {k}"], "parameters": parameters(net)} for k, net in enumerate(nets, 1)]
    table = pd.DataFrame(rows)
    write(table, DATA / "results" / "dvt_costs.csv")
    print(table.round(4).to_string())


if __name__ == "__main__":
    main()

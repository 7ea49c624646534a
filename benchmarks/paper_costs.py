"""Costs and parameters that the papers print, counted on our nets.  python benchmarks/paper_costs.py

Random weights, 224 pixels, one picture of zeros: what no picture changes. SuperViT's and SPViT's cost is what torch counts while
the net runs; DVT's and SViT's is fvcore's count, LayerNorm and resizing included, as those papers say. What the papers print is
typed here (the twelve points of DeiT-S and DVT's Table 6 are in throughput.py's and dvt_costs.py's tables); `digits` are the
printed decimals. Writes data/results/paper_costs.csv in about a minute on one core.
"""
from collections.abc import Iterator

import pandas as pd
import torch

import vitlab
from vitlab.measure import audit, paper, parameters, write
from vitlab.measure.records import DATA
from vitlab.methods.supervit import Point

GFLOPS, MILLIONS = "GFLOPs", "parameters (M)"
DROPS = {(3, 6, 9): {0.5: (0.6, 1.0, 1.4, 2.0), 0.7: (0.9, 1.4, 2.0, 2.8), 1.0: (1.4, 2.3, 3.3, 4.6)},      # at 8, 10, 12, 14
         (4, 6, 8): {0.5: (0.7, 1.1, 1.5, 2.1), 0.7: (0.9, 1.4, 2.1, 2.8), 1.0: (1.4, 2.3, 3.3, 4.6)}}
TOKENS = {14: 1.78, 7: 0.47, 4: 0.21}                       # T2T-ViT-12
FEATURES = {"no reuse": ({"features": False}, 1.37), "layer-wise": ({"feature_source": "layerwise"}, 1.43),
            "class token reused": ({"reuse_cls": True}, 1.43), "first layer only": ({"feature_layers": "first"}, 1.38),
            "without LN": ({"feature_norm": False}, 1.42), "ours": ({}, 1.43)}
RELATIONS = {"layer-wise": ({"relation_source": "same"}, 1.38), "final layer": ({"relation_source": "final"}, 1.39),
             "linear": ({"relation_net": "linear"}, 1.38), "naive upsample": ({"upsample": "naive"}, 1.41), "ours": ({}, 1.41)}
SELECTORS = {(3, 6, 9): 22.13, (6, 9): 22.10, (3, 5, 7, 9): 22.16}
IMAGE = torch.zeros(1, 3, 224, 224)


def row(method: str, place: str, net: str, printed: float, ours: float, digits: int, what: str = GFLOPS) -> dict:
    return {"method": method, "place": place, "net": net, "what": what, "printed": printed, "ours": ours, "digits": digits}


def supervit() -> Iterator[dict]:
    lvvit = vitlab.create("supervit", "lvvit_small").eval()
    told = paper("supervit").query("backbone == 'lvvit_small' and variant.isna()").set_index(["length", "keep"]).gmacs
    for point in lvvit.points:
        yield row("supervit", "Table 1", f"lvvit_small, {point.length}, {point.keep:g}", told[point.length, point.keep],
                  vitlab.gmacs(lvvit, IMAGE, point)[0], 1)
    for blocks, table in DROPS.items():
        net = vitlab.create("supervit", "deit_small", drop_blocks=blocks).eval()
        for keep, costs in table.items():
            for length, cost in zip((8, 10, 12, 14), costs, strict=True):
                yield row("supervit", "Table 6", f"deit_small, drop at {blocks}, {length}, {keep:g}", cost,
                          vitlab.gmacs(net, IMAGE, Point(length, keep))[0], 1)
    shared, own = (vitlab.create("supervit", "deit_small", embedding=kind) for kind in ("shared", "individual"))
    yield row("supervit", "Table 8", "deit_small, individual embeddings, more than shared", 1.83,
              (parameters(own) - parameters(shared)) / 1e6, 2, MILLIONS)


def dvt() -> Iterator[dict]:
    for grid, cost in TOKENS.items():
        net = vitlab.create("dense", "t2t_vit_12", grid=grid).eval()
        yield row("dvt", "Table 1", f"t2t_vit_12, {grid}x{grid}", cost, audit(net, IMAGE)["total"], 2)
    for place, own, table in (("Table 7", "features", FEATURES), ("Table 8", "relations", RELATIONS)):
        for name, (switch, cost) in table.items():
            knobs = {"features": False, "relations": False, "upsample": "official", own: True} | switch
            net = vitlab.create("dvt", "t2t_vit_12", grids=(7, 10), **knobs).eval()
            yield row("dvt", place, f"t2t_vit_12, 7 to 10, {name}", cost, audit(net, IMAGE)["total"], 2)


def spvit() -> Iterator[dict]:
    for after, count in SELECTORS.items():
        net = vitlab.create("spvit", "deit_small", after=after)
        yield row("spvit", "Table 6", f"deit_small, after {after}", count, parameters(net) / 1e6, 2, MILLIONS)
    for backbone, cost in (("deit_tiny", 1.30), ("deit_tiny_gap", 1.29)):
        yield row("spvit", "Table 12", backbone, cost, vitlab.gmacs(vitlab.create("dense", backbone).eval(), IMAGE)[0], 2)


def svit() -> Iterator[dict]:
    yield row("svit", "Table 1", "deit_small", 4.6, audit(vitlab.create("dense", "deit_small").eval(), IMAGE)["total"], 1)
    net = vitlab.create("svit", "deit_small").eval()
    yield row("svit", "Table 1", "deit_small, k = 0.7", 3.0, audit(net, IMAGE)["total"], 1)


def main() -> None:
    torch.set_num_threads(1)
    table = pd.DataFrame([each for part in (supervit, dvt, spvit, svit) for each in part()])
    write(table, DATA / "results" / "paper_costs.csv")
    print(table.round(4).to_string())


if __name__ == "__main__":
    main()

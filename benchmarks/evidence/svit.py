"""SViT's claims, of its supplement."""
import pandas as pd

from evidence import HARD, OBJECTS, Evidence, by_seed, clock, raced, read, seeds, told


def speed(keep: str) -> Evidence:
    row = read("svit_speed_cpu_fp32")
    row = row[row["name"] == f"keep {keep}, each its own"]
    return raced(f"DeiT-S, k = {keep}, each picture its own tokens, against timm's DeiT-S", row, "svit_speed_cpu_fp32")


def by_batch() -> pd.DataFrame:
    return read("svit_batch_cpu_fp32").query("name == 'svit'").set_index("batch").sort_index()


def batches() -> Evidence:
    rows = by_batch()
    return clock(f"speed-up at batch {rows.index[-1]} over that at batch {rows.index[0]}",
                 rows.speed_up.iloc[-1] / rows.speed_up.iloc[0], rows.iloc[[0, -1]], "svit_batch_cpu_fp32")


def small_batch() -> Evidence:
    one = by_batch().iloc[:1]
    return clock(f"promised over measured speed-up at batch {one.index[0]}", one.gmacs_ratio / one.speed_up, one,
                 "svit_batch_cpu_fp32")


def less(better: str, worse: str) -> Evidence:
    names = {"return": "SViT", "inherit": "none comes back", "random": "random gates", "fixed rate": "shares of every image",
             "dense": "the dense net", "drawn to the end": "decisions drawn to the end"}
    one, other = (by_seed("svit_small_points", "top1", variant=name) for name in (better, worse))
    return seeds(f"{names[better]} less {names[worse]}, k = 0.5", one - other, HARD, "svit_small_points")


def boxes(better: str, worse: str) -> Evidence:
    names = {"return": "SViT", "inherit": "none comes back", "random": "random gates", "discard": "gone from the map",
             "fixed rate": "shares of every image", "dense": "dense"}
    one, other = (by_seed("svit_dense_points", "box_ap", variant=name) for name in (better, worse))
    return seeds(f"box AP of a detector: {names[better]} less {names[worse]}, k = 0.3", one - other, OBJECTS, "svit_dense_points")


def shipped(keep: str) -> Evidence:
    row = read("svit_shipped_points").query(f"keep == {keep}").iloc[0]
    dense = by_seed("svit_small_points", "top1", variant="dense")[0]
    return seeds(f"SViT at k = {keep} less the dense net it comes from", pd.Series([row.top1 - dense]), HARD,
                 "svit_shipped_points", "svit_small_points")


def back() -> Evidence:
    share = told("svit_small_claims", "tokens left out that come back")
    return seeds("of the tokens left out, those that come back", 100 * share, HARD, "svit_small_claims", unit="percent")


def blocks() -> Evidence:
    one, other = (told("svit_small_claims", f"blocks used by {who}") for who in ("a patch of the answer's objects",
                                                                                 "any other patch"))
    return seeds("blocks used by a patch of the answer's objects less those of any other", one - other, HARD, "svit_small_claims",
                 unit="blocks")


def blocks_of_boxes() -> Evidence:
    one, other = (by_seed("svit_dense_points", column, variant="return") for column in ("used_object", "used_background"))
    return seeds("detector: blocks used by patches of objects less those of background", one - other, OBJECTS,
                 "svit_dense_points", unit="blocks")

"""Which patches are used how often, which come back, and where they lie: from traces written by hand, and of nets."""
import math

import pandas as pd
import pytest
import torch

import vitlab
from vitlab.data import ImageSet, objects
from vitlab.measure import by_region, fate, overlap, used
from vitlab.measure.focus import on_patches
from vitlab.trace import LayerTrace, Trace


def trace(*blocks: list[str], stage: int = 0) -> Trace:
    """A trace of who took part: for each block a word of 0 and 1 for each image, a letter for each patch."""
    made = Trace()
    for layer, words in enumerate(blocks):
        there = torch.tensor([[letter == "1" for letter in word] for word in words])
        made.layers.append(LayerTrace(stage, layer, (1, there.shape[1]), there, there, there.float(), torch.ones(len(words))))
    return made


def test_a_patch_is_used_by_the_blocks_it_took_part_in():
    assert used(trace(["1111", "1110"], ["1010", "0110"], ["0110", "0000"])).tolist() == [[2, 2, 3, 1], [1, 2, 2, 0]]


def test_what_becomes_of_those_left_out():
    """Block 2 leaves out four: one is back in block 3, one in block 4, two never."""
    table = fate(trace(["111111"], ["110000"], ["011000"], ["110100"]))
    assert table.layer.tolist() == [1, 2, 3, 4] and table.left_out.tolist() == pytest.approx([0, 4 / 6, 4 / 6, 3 / 6])
    rows = table.set_index("layer")[["next", "later", "never"]]
    assert rows.loc[1].isna().all()
    assert rows.loc[2].tolist() == [0.25, 0.25, 0.5]
    assert rows.loc[3].tolist() == [0.5, 0, 0.5]                   # the first patch, and the one that block 2 left out too
    assert rows.loc[4].tolist() == [0, 0, 1]


def test_shares_of_several_images_are_of_all_their_patches():
    table = fate(trace(["11", "11"], ["00", "11"], ["11", "11"]))
    assert table.left_out.tolist() == [0, 0.5, 0] and table.next[1] == 1


def test_without_returning_nobody_comes_back():
    torch.manual_seed(0)
    images = torch.randn(3, 3, 56, 56)
    for pruned, back in (("return", True), ("inherit", False), ("discard", False)):
        net, record = vitlab.create("svit", "micro_patch4", num_classes=4, pruned=pruned).eval(), Trace()
        with torch.no_grad():
            net(images, None, record)
        table = fate(record)
        assert table.left_out.iloc[-1] > 0.5
        assert (table.never.dropna().iloc[:-1] == 1).all() != back


def test_neighbouring_blocks_overlap_as_counted():
    table = overlap(trace(["1110", "1100"], ["0111", "1100"], ["0000", "1000"]))
    assert table[["layer", "following"]].values.tolist() == [[1, 2], [2, 3]]
    assert table.overlap.tolist() == pytest.approx([(2 / 4 + 1) / 2, (0 + 1 / 2) / 2])


def test_chance_is_what_random_sets_have():
    torch.manual_seed(0)
    blocks = [(torch.rand(4000, 12).argsort(1) < count).int().tolist() for count in (7, 4)]
    record = trace(*[["".join(map(str, word)) for word in block] for block in blocks])
    row = overlap(record).iloc[0]
    assert row.overlap == pytest.approx(row.chance, abs=0.01) and 0.2 < row.chance < 0.4
    assert overlap(trace(["1100"], ["1111"])).chance[0] == pytest.approx(0.5)
    assert math.isnan(overlap(trace(["00"], ["00"])).chance[0])


@pytest.mark.parametrize("function", [used, fate, overlap])
def test_a_trace_of_nothing_or_of_several_nets_is_refused(function):
    with pytest.raises(ValueError, match="the trace is empty"):
        function(Trace())
    record = trace(["11"])
    record.layers += trace(["11"], stage=1).layers
    with pytest.raises(ValueError, match="several nets or grids"):
        function(record)


class Looks(torch.nn.Module):
    """A net of two blocks of 6x6 patches; the second takes the patches that are bright."""

    adaptive, made = True, {"image_size": 48, "num_classes": 1}

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, images, point=None, trace=None):
        bright = on_patches(images.mean(1) > 0.8, (6, 6))
        for layer, there in enumerate((torch.ones_like(bright), bright)):
            trace.layers.append(LayerTrace(0, layer, (6, 6), there, there, there.float(), there.new_ones(len(there))))


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("VITLAB_DATA", str(tmp_path_factory.mktemp("made")))
    yield objects("val", size=48, n=12)
    patch.undo()


def white(crowd):
    """The same pictures, objects white on black."""
    masks = torch.stack([torch.from_numpy(crowd.mask(n)) for n in range(len(crowd))])
    return crowd.changed(pictures=(255 * masks[..., None].expand(-1, -1, -1, 3)).to(torch.uint8)), masks


def test_object_and_background_are_told_apart(crowd):
    data, masks = white(crowd)
    table = by_region(Looks(), data, batch=5)
    share = on_patches(masks, (6, 6)).double().mean(1)
    assert table.image.tolist() == list(range(12)) and table.object.tolist() == pytest.approx(share.tolist())
    assert (table.used_object == 2).all() and (table.used_background == 1).all()
    assert table.used.tolist() == pytest.approx((1 + share).tolist())
    joined = table.join(pd.DataFrame(crowd.columns), on="image")
    assert joined.objects.tolist() == crowd.objects.tolist()


def test_an_image_set_with_masks_is_told_apart_too(crowd):
    data, masks = white(crowd)
    from vitlab.data.scenes import packed
    flat = ImageSet("flat", ["a"], torch.zeros(12, dtype=torch.long), data.pictures, 48, masks=packed(masks))
    table = by_region(Looks(), flat)
    assert (table.used_object == 2).all() and (table.used_background == 1).all()
    with pytest.raises(ValueError, match="does not know where its objects are"):
        by_region(Looks(), flat.changed(masks=None))


def test_a_dense_net_uses_every_patch_in_every_block(crowd):
    net = vitlab.create("dense", "micro_patch8", num_classes=4, image_size=48)
    table = by_region(net, crowd)
    assert (table.used == 4).all() and (table.used_object == 4).all()

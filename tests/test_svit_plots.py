"""What SViT's figures show: patches that are back, what becomes of those left out, speed batch by batch."""
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from samples import pictures
from test_plots import decoded

import vitlab
from vitlab import plots
from vitlab.methods.svit import calibrate
from vitlab.plots import overlay
from vitlab.trace import LayerTrace
from vitlab.widgets.view import View

PICTURE = np.full((56, 56, 3), 120, np.uint8)


@pytest.fixture(scope="module")
def trace():
    """Two random images through a net whose gates differ widely."""
    torch.manual_seed(0)
    net = vitlab.create("svit", "micro_patch8", num_classes=10).eval()
    with torch.no_grad():
        for gate in net.gates:
            gate.fc2.weight.mul_(60)
        calibrate(net, vitlab.data.shapes("test", n=100).take(slice(12)))
        record = vitlab.Trace()
        net(pictures(2), None, record)
    return record


def framed(picture) -> np.ndarray:
    """Which pixels are the colour of the frame."""
    return (picture == overlay.BACK.astype(np.uint8)).all(2)


def test_a_frame_stands_round_every_patch_that_is_back_and_no_other(trace):
    figure = plots.returns(PICTURE, trace, 1)
    first = next(n for n, part in enumerate(trace.layers) if not part.fed[1].all()) - 1
    assert len(figure.data) == len(trace.layers) - first
    counted = 0
    for shown, place in zip(figure.data, range(first, len(trace.layers))):
        back = trace.layers[place].fed[1] & ~trace.layers[max(place - 1, 0)].fed[1]
        green = framed(decoded(shown))
        side = green.shape[0] // 7
        each = green.reshape(7, side, 7, side).transpose(0, 2, 1, 3).reshape(49, side, side)
        assert each.any((1, 2)).tolist() == back.tolist()
        assert not each[:, side // 4:-side // 4, side // 4:-side // 4].any()        # a frame, not a patch
        assert all(patch[0].all() and patch[:, -1].all() for patch in each[back.numpy()])
        counted += int(back.sum())
    assert counted > 0
    texts = [note.text for note in figure.layout.annotations]
    assert sum(int(text.split(", ")[1].split()[0]) for text in texts if "back" in text) == counted
    assert len(plots.returns(PICTURE, trace, layers=[2]).data) == 1
    with pytest.raises(ValueError, match="layers must be places"):
        plots.returns(PICTURE, trace, layers=[99])


def test_bars_add_up_to_what_is_left_out(trace):
    told = vitlab.measure.fate(trace)
    figure = plots.fates(pd.concat([told.assign(seed=0), told.assign(seed=1)]))
    total = sum(np.asarray(bar.y, float) for bar in figure.data)
    np.testing.assert_allclose(total, 100 * told.left_out, atol=1e-4)
    assert [bar.name for bar in figure.data] == ["back in the next block", "back later", "never back"]


def test_speed_is_drawn_batch_by_batch_beside_its_promise():
    rows = pd.DataFrame({"name": ["timm", "svit"] * 2, "batch": [8, 8, 1, 1], "speed_up": [1, 1.5, 1, 0.9],
                         "gmacs_ratio": [1, 1.6, 1, 1.6]})
    measured, promised = plots.by_batch(rows).data
    assert list(measured.x) == [1, 8] and list(measured.y) == [0.9, 1.5] and list(promised.y) == [1.6, 1.6]
    with pytest.raises(ValueError, match="no row is called 'spvit'; the frame has timm, svit"):
        plots.by_batch(rows, name="spvit")


def test_the_panel_says_when_the_class_token_is_left_out_of_a_block():
    look = SimpleNamespace(subject=SimpleNamespace(picture=np.zeros((8, 8, 3), np.uint8)),
                           name=lambda place, exits: f"layer {place + 1}", layers=[
        LayerTrace(0, layer, (2, 2), torch.ones(1, 4, dtype=torch.bool), torch.ones(1, 4, dtype=torch.bool),
                   torch.full((1, 4), attention), torch.ones(1)) for layer, attention in enumerate((0.2, 0.0))])
    view = View(None)
    for place, words in enumerate(("attention to patches, layer 1</p>", "class token left out, layer 2</p>")):
        view.show_layer(look, place, ())
        assert view.captions["attention"].value.endswith(words)


def test_a_block_that_no_patch_takes_part_in_is_passed_all_the_same():
    """The class token goes through it alone, or nobody; an image that has left a cascade goes through nothing."""
    ids, q = torch.arange(4)[None], torch.zeros(1, 1, 5, 2)
    own, whole = vitlab.Trace(), vitlab.Trace()
    own.add(0, (2, 2), ids, q, q)
    own.add(1, (2, 2), ids[:, :0], q[:, :, :1], q[:, :, :1])
    own.add(2, (2, 2), ids[:, :0], q[:, :, :1], q[:, :, :1], mask=torch.zeros(1, 1, 1, 1, dtype=torch.bool))
    whole.join(own, 0, torch.tensor([1]), 2)
    assert [part.passed.tolist() for part in own.layers] == [[True]] * 3
    assert [part.passed.tolist() for part in whole.layers] == [[False, True]] * 3
    figure = plots.kept_by(np.zeros((8, 8, 3), np.uint8), {"svit": own})
    assert [note.text for note in figure.layout.annotations if "of 4" in note.text] == ["1: 4 of 4", "2: 0 of 4", "3: 0 of 4"]

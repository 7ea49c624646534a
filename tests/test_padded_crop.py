"""Small pictures are shifted and mirrored a batch at once: every result is a window of the padded picture, all windows come."""
import io

import pytest
import torch
from PIL import Image

from vitlab.data import ImageSet, PaddedCrop, load
from vitlab.data.picture import USUAL, normalised

SIDE = 6


def marked(n=64):
    """Pictures whose pixels are all different, and none black."""
    return torch.arange(1, SIDE * SIDE + 1, dtype=torch.uint8).reshape(1, SIDE, SIDE, 1).repeat(n, 1, 1, 3)


def windows(picture, p):
    """All results that there can be, as (top, left, mirrored) -> float [3, S, S], written out."""
    wide = torch.zeros(SIDE + 2 * p, SIDE + 2 * p, 3, dtype=torch.uint8)
    wide[p:p + SIDE, p:p + SIDE] = picture
    found = {}
    for top in range(2 * p + 1):
        for left in range(2 * p + 1):
            crop = wide[top:top + SIDE, left:left + SIDE]
            for mirrored in (False, True):
                found[top, left, mirrored] = normalised((crop.flip(1) if mirrored else crop)[None], USUAL)[0]
    return found


def test_every_result_is_a_window_and_every_window_comes():
    pictures = marked(600)
    made, known = PaddedCrop(1)(pictures, SIDE, USUAL), windows(pictures[0], 1)
    seen = {place: sum(torch.equal(image, window) for image in made) for place, window in known.items()}
    assert sum(seen.values()) == 600 and min(seen.values()) > 10          # 18 windows, 33 of each expected


def test_without_padding_and_mirror_nothing_changes():
    assert torch.equal(PaddedCrop(0, 0.)(marked(3), SIDE, USUAL), normalised(marked(3), USUAL))
    assert torch.equal(PaddedCrop(0, 1.)(marked(3), SIDE, USUAL), normalised(marked(3), USUAL).flip(3))


def test_a_seed_repeats_it_and_pillow_images_are_taken_too():
    pictures = marked(5)
    torch.manual_seed(3)
    first = PaddedCrop()(pictures, SIDE, USUAL)
    torch.manual_seed(3)
    assert torch.equal(first, PaddedCrop()([Image.fromarray(p.numpy()) for p in pictures], SIDE, USUAL))


@pytest.mark.parametrize(("wrong", "words"), [({"padding": -1}, "padding, the pixels added"), ({"hflip": 2}, "hflip"),
                                              ({"padding": 1.5}, "padding, the pixels added")], ids=str)
def test_what_makes_no_sense_is_refused(wrong, words):
    with pytest.raises(ValueError, match=words):
        PaddedCrop(**wrong)


def test_a_set_that_is_loaded_with_it_is_decoded_once(tmp_path):
    for name in "ab":
        for number in range(2):
            (tmp_path / name).mkdir(exist_ok=True)
            data = io.BytesIO()
            Image.new("RGB", (9, 9), (40 * number, 9, 200)).save(data, "PNG")
            (tmp_path / name / f"{number}.png").write_bytes(data.getvalue())
    data = load(tmp_path, image_size=8, augment=PaddedCrop(2))
    assert isinstance(data, ImageSet) and isinstance(data.pictures, torch.Tensor)
    images, labels = data.__getitems__([0, 3])
    assert images.shape == (2, 3, 8, 8) and labels.tolist() == [0, 1]

"""Brightness goes by the type of a picture's numbers, never by how large they happen to be."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from vitlab.data import load, shapes
from vitlab.data.picture import in_rgb, opened

RAMP = np.arange(256).reshape(16, 16)


def level(source) -> np.ndarray:
    """The grey levels a picture comes out with, int [H, W]."""
    return np.asarray(in_rgb(opened(source)))[..., 0].astype(int)


def tiff(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(values).save(file, "tiff")
    return file.getvalue()


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32, np.int64, np.uint32, np.uint64])
def test_whole_numbers_of_any_type_are_grey_levels(kind):
    assert (level(RAMP.astype(kind)) == RAMP).all()
    assert (level((RAMP // 2).astype(kind)) == RAMP // 2).all()     # a dark picture stays as dark


def test_sixteen_bits_and_floats_have_a_range_of_their_own():
    assert (level((RAMP * 257).astype(np.uint16)) == RAMP).all()
    assert (level(np.full((2, 2), 255, np.uint16)) == 1).all()
    for kind in (np.float16, np.float32, np.float64):
        assert (level((RAMP / 255).astype(kind)) == RAMP).all()
        assert abs(level((RAMP / 510).astype(kind)) - RAMP / 2).max() < .6
    assert (level(RAMP > 100) == 255 * (RAMP > 100)).all()


def test_colour_is_as_grey():
    for values in (RAMP.astype(np.int64), RAMP / 255, (RAMP * 257).astype(np.uint16)):
        assert (level(np.stack([values] * 3, -1)) == RAMP).all()
    assert (level(np.full((3, 3, 4), 255)) == 255).all()


@pytest.mark.parametrize("values, words", [
    (RAMP - 1, "from -1 to 254, but numbers of type int64 are taken as 0 .black. to 255"),
    (RAMP + 1, "to 256, .* to 255"), ((RAMP * 100).astype(np.int32), "to 25500, .* to 255"),
    (RAMP.astype(np.float32), "from 0 to 255, but numbers of type float32 are taken as 0 .black. to 1 "),
    (RAMP / 100, "to 2.55, .* to 1 "), (RAMP / 255 - .5, "from -0.5"), (np.full((2, 2), 1.01), "to 1.01")])
def test_numbers_outside_their_types_range_are_refused(values, words):
    sources = [values] if values.dtype in (np.int64, np.float64) else [values, tiff(values), Image.fromarray(values)]
    for source in sources:
        with pytest.raises(ValueError, match=words) as error:
            level(source)
        assert "\n" not in str(error.value)


def test_what_resizing_leaves_outside_the_range_is_rounding():
    assert level(np.array([[-.002, 1.002]])).tolist() == [[0, 255]]


def test_two_files_of_32_bits_keep_their_brightness_towards_each_other():
    for kind, white in ((np.float32, 1), (np.int32, 255)):
        bright, dark = ((RAMP / 255 * white * share).astype(kind) for share in (1., .2))
        assert Image.open(io.BytesIO(tiff(bright))).mode == ("F" if kind == np.float32 else "I")
        for values in (bright, dark):
            assert abs(level(tiff(values)) - values / white * 255).max() <= .5
            assert abs(level(Image.fromarray(values)) - values / white * 255).max() <= .5


def test_formats_of_16_bits_stay_so_where_pillow_opens_them_with_32():
    for share in (257, 1):
        values = (RAMP * share).astype(np.uint16)
        pgm = b"P5 16 16 65535\n" + values.astype(">u2").tobytes()
        png = io.BytesIO()
        Image.fromarray(values).save(png, "png")
        assert Image.open(io.BytesIO(pgm)).mode == "I"
        for file in (pgm, png.getvalue(), tiff(values)):
            assert (level(file) == (values / 257).round()).all()


def test_a_file_of_floats_is_as_an_array_of_floats():
    pfm = b"Pf\n2 1\n-1.0\n" + np.array([.2, 1.], "<f4").tobytes()
    assert Image.open(io.BytesIO(pfm)).mode == "F" and level(pfm).tolist() == [[51, 255]]


def test_tensors_are_pictures_whatever_their_type_and_history():
    for kind in (torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.uint8):
        values = torch.ones(4, 4, 3, dtype=kind)
        assert (level(values) == (255 if kind.is_floating_point else 1)).all()
    assert (level(torch.ones(4, 4, requires_grad=True)) == 255).all()
    with pytest.raises(ValueError, match="from -1"):
        shapes(n=1).prepare(-torch.ones(8, 8, 3))       # a normalised image is no picture


def test_colours_that_pillow_cannot_turn_are_one_sentence():
    with pytest.raises(ValueError, match="cannot be turned into RGB"):
        in_rgb(Image.new("La", (4, 4)))


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n{} loop\n%%EOF\n"      # runs for ever where it is run at all


@pytest.mark.parametrize("door", ["bytes", "path", "upload", "class folder"])
def test_a_picture_that_is_a_program_is_not_run(door, tmp_path):
    """Under whatever name it comes."""
    file = tmp_path / "set" / "cat" / "holiday.png"
    file.parent.mkdir(parents=True)
    file.write_bytes(POSTSCRIPT)
    Image.new("RGB", (8, 8)).save(file.with_name("other.png"))
    says = "holiday.png.* cannot be decoded" if door == "class folder" else "in no format that is read here"
    with pytest.raises(ValueError, match=says):
        if door == "class folder":
            load(tmp_path / "set", image_size=8)
        elif door == "upload":
            shapes("test", n=10).prepare(POSTSCRIPT)
        else:
            opened(POSTSCRIPT if door == "bytes" else str(file))


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "gif", "bmp", "tiff", "ppm", "jpeg2000", "ico", "tga"])
def test_usual_formats_are_read(kind):
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 200, 200)).save(file, kind)
    assert abs(level(file.getvalue()).mean() - 200) < 3

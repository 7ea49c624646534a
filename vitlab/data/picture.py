"""One picture: opened from whatever a person hands in, made the net's input by one evaluation transform."""

import io
import os
import struct
import zlib
from dataclasses import asdict, dataclass

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor


@dataclass(frozen=True)
class Preprocessing:
    """What a net wants done to a picture before it looks; the defaults are DeiT's. ValueError for what cannot be done."""
    mean: tuple[float, float, float] = (.485, .456, .406)
    "of the colours, taken off (ImageNet's)"
    std: tuple[float, float, float] = (.229, .224, .225)
    "of the colours, divided by"
    crop: float = .9
    "share of the shorter side that is looked at, in (0, 1]"
    interpolation: str = "bicubic"
    "how a picture is resized: nearest, bilinear, bicubic, lanczos, box or hamming"

    def __post_init__(self):
        for name in ("mean", "std"):
            object.__setattr__(self, name, tuple(float(value) for value in getattr(self, name)))
        if len(self.mean) != 3 or len(self.std) != 3 or not all(value > 0 for value in self.std):
            raise ValueError(f"mean and std must be three numbers each, std above 0, not {self.mean} and {self.std}")
        if not 0 < self.crop <= 1:
            raise ValueError(f"crop must be in (0, 1], not {self.crop}; 1 shows the whole square")
        if self.interpolation.upper() not in Image.Resampling.__members__:
            raise ValueError(f"interpolation must be one of {', '.join(Image.Resampling.__members__).lower()}, "
                             f"not {self.interpolation!r}")

    def facts(self) -> dict:
        """As JSON gives it back, for a checkpoint."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


USUAL = Preprocessing()
MEAN, STD = USUAL.mean, USUAL.std
MOST_PIXELS = 80_000_000     # a larger upload is refused before it is decoded
TOO_LARGE = f"this picture has more than {MOST_PIXELS // 10**6} million pixels; make it smaller first"
SLACK = 1 / 255              # how far floats may lie outside 0..1, as resizing leaves them: a grey level
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "AVIF", "ICO", "TGA", "HEIF", "HEIC",
           "JXL")            # what is decoded here; Pillow hands others, such as PostScript, to programs that run what is in them
SIXTEEN_BIT = ("PNG", "PPM")                    # files of 16-bit grey that some Pillow opens as mode I, of 32 bit
UNREADABLE = (OSError, SyntaxError, EOFError, ValueError, struct.error, zlib.error, Image.DecompressionBombError)


def opened(source: Image.Image | np.ndarray | Tensor | bytes | str) -> Image.Image:
    """A decoded picture from a Pillow image, an array [H, W] or [H, W, 1|3|4], a file's bytes, or a path."""
    if isinstance(source, Tensor):
        source = source.detach().cpu()
        source = (source.float() if source.is_floating_point() else source).numpy()    # numpy has no bfloat16
    if isinstance(source, np.ndarray):
        return from_array(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        source = io.BytesIO(source)
    if not isinstance(source, Image.Image | io.BytesIO | str | os.PathLike):
        raise TypeError(f"a picture is a Pillow image, an array, a file's bytes or a path, not {source!r:.60}")
    try:
        picture = source if isinstance(source, Image.Image) else Image.open(source, formats=formats())
        if picture.width * picture.height > MOST_PIXELS:
            raise Image.DecompressionBombError
        picture.load()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no picture {source!r}; check the path") from error
    except Image.DecompressionBombError:
        raise ValueError(TOO_LARGE) from None
    except UNREADABLE as error:
        what = "in no format that is read here" if isinstance(error, UnidentifiedImageError) else error     # it names our buffer
        raise ValueError(f"this is not a whole picture ({what}); save it again as PNG or JPEG") from error
    if 0 in picture.size:
        raise ValueError(f"this picture is {picture.width} x {picture.height} pixels; it needs at least one")
    return picture


def formats() -> list[str]:
    """Those of FORMATS that this Pillow knows, with the plug-ins that were registered."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def from_array(values: np.ndarray) -> Image.Image:
    """By the type of the numbers, never by how large they happen to be: black to white is 0 to 1 for floats and bool,
    0 to 65,535 for uint16, and 0 to 255 for every other whole number. ValueError for what lies outside.
    """
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    if values.size == 0 or values.ndim not in (2, 3) or values.shape[2:] not in ((), (3,), (4,)):
        raise ValueError(f"shape {list(values.shape)} is no picture's; give [H, W], [H, W, 3] or [H, W, 4]")
    if values.dtype.kind not in "fiub" or not np.isfinite(values).all():
        raise ValueError("this picture has values that are no finite numbers; give uint8, or floats in 0..1")
    if values.shape[0] * values.shape[1] > MOST_PIXELS:
        raise ValueError(TOO_LARGE)
    return scaled(values, 1 if values.dtype.kind in "fb" else 65_535 if values.dtype == np.uint16 else 255)


def scaled(values: np.ndarray, white: int) -> Image.Image:
    """uint8 from 0 to `white`; floats may be off by rounding."""
    low, high = values.min().item(), values.max().item()
    if low < -SLACK or high > white + SLACK:
        raise ValueError(f"this picture has values from {low:g} to {high:g}, but numbers of type {values.dtype} are taken as "
                         f"0 (black) to {white} (white); give uint8, or floats in 0..1")
    if values.dtype != np.uint8:
        values = (values.astype(np.float64) / white * 255).round().clip(0, 255).astype(np.uint8)
    return Image.fromarray(values)


def in_rgb(picture: Image.Image) -> Image.Image:
    """Upright, 8 bit, three channels: deeper values are scaled as `from_array` says, transparency is laid over white."""
    kind = picture.format
    picture = ImageOps.exif_transpose(picture)
    if picture.mode == "RGB":
        return picture
    if picture.mode.startswith("I;16"):
        picture = from_array(np.asarray(picture).astype(np.uint16))
    elif picture.mode in ("I", "F"):
        sixteen = picture.mode == "I" and kind in SIXTEEN_BIT
        picture = scaled(np.asarray(picture), 65_535) if sixteen else from_array(np.asarray(picture))
    try:
        if picture.has_transparency_data:
            picture = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
        return picture.convert("RGB")
    except ValueError as error:
        raise ValueError(f"this picture cannot be turned into RGB ({error}); save it as an RGB picture") from error


def squared(picture: Image.Image, size: int, wanted: Preprocessing = USUAL) -> Tensor:
    """THE evaluation transform: the centre square, resized, as uint8 [size, size, 3].

    A picture with pixels to spare is cropped to `crop` of its shorter side; a smaller one is shown whole.
    """
    picture = in_rgb(picture)
    side = min(picture.size)
    if side * wanted.crop >= size:
        side *= wanted.crop
    left, top = (picture.width - side) / 2, (picture.height - side) / 2
    if picture.size != (size, size):
        box = (left, top, left + side, top + side)
        picture = picture.resize((size, size), Image.Resampling[wanted.interpolation.upper()], box=box)
    return torch.from_numpy(np.array(picture))


def normalised(pictures: Tensor, wanted: Preprocessing = USUAL) -> Tensor:
    """uint8 [n, S, S, 3] -> float [n, 3, S, S] of about mean 0 and spread 1."""
    std = torch.tensor(wanted.std)
    scale, shift = 1 / (255 * std), torch.tensor(wanted.mean) / std
    return (pictures.float() * scale - shift).permute(0, 3, 1, 2).contiguous()

"""One picture: opened from whatever a person hands in, made the net's input by one evaluation transform."""

import io
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
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
MOST_PIXELS = 24_000_000     # decoded at once, at four bytes each; a larger picture is refused before it is decoded
LONGEST = 32_768             # pixels of a side
MOST_OF_A_JPEG = 60_000_000  # a JPEG shrinks while it is decoded, unless it is progressive
TOO_LARGE = (f"this picture has more than {MOST_PIXELS // 10**6} million pixels, or a side of more than {LONGEST:,}; make it "
             "smaller first")
ORIENTATION = ExifTags.Base.Orientation
TILE = 1024                  # pixels of a side of what changes its type at once
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
        if isinstance(source, str | os.PathLike):
            source = io.BytesIO(Path(source).read_bytes())                 # a file that turns out broken does not stay open
        picture = source if isinstance(source, Image.Image) else Image.open(source, formats=formats())
        check_size(picture)
        picture.load()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no picture {str(source)!r}; check the path") from error
    except (Image.DecompressionBombError, MemoryError):
        raise ValueError(TOO_LARGE) from None
    except UNREADABLE as error:
        what = "in no format that is read here" if isinstance(error, UnidentifiedImageError) else error     # it names our buffer
        raise ValueError(f"this is not a whole picture ({what}); save it again as PNG or JPEG") from error
    if 0 in picture.size:
        raise ValueError(f"this picture is {picture.width} x {picture.height} pixels; it needs at least one")
    return picture


def check_size(picture: Image.Image) -> None:
    """DecompressionBombError for a picture that is too large; a larger JPEG is set to be decoded at a half or less per side."""
    count = picture.width * picture.height
    if count <= MOST_PIXELS and max(picture.size) <= LONGEST:
        return
    shrinks = picture.format in ("JPEG", "MPO") and not picture.info.get("progressive")
    if max(picture.size) > LONGEST or count > MOST_OF_A_JPEG or not shrinks:
        raise Image.DecompressionBombError
    picture.draft(picture.mode, (picture.width // 2, picture.height // 2))
    if picture.width * picture.height > MOST_PIXELS:                       # decoded already, or the decoder could not
        raise Image.DecompressionBombError


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
    if values.shape[0] * values.shape[1] > MOST_PIXELS or max(values.shape) > LONGEST:
        raise ValueError(TOO_LARGE)
    return scaled(values, 1 if values.dtype.kind in "fb" else 65_535 if values.dtype == np.uint16 else 255)


def scaled(values: np.ndarray, white: int) -> Image.Image:
    """uint8 from 0 to `white`; floats may be off by rounding."""
    check_values(values.min().item(), values.max().item(), values.dtype, white)
    if values.dtype != np.uint8:
        flat = np.ascontiguousarray(values).reshape(-1)
        parts = [in_bytes(flat[start:start + TILE ** 2], white) for start in range(0, len(flat), TILE ** 2)]
        values = np.concatenate(parts).reshape(values.shape)               # float64 of the whole would be eight times as large
    return Image.fromarray(values)


def in_bytes(values: np.ndarray, white: int) -> np.ndarray:
    """0 to `white` as uint8."""
    return (values.astype(np.float64) / white * 255).round().clip(0, 255).astype(np.uint8)


def check_values(low: float, high: float, dtype: np.dtype, white: int) -> None:
    """ValueError for values outside black and white."""
    if low < -SLACK or high > white + SLACK:
        raise ValueError(f"this picture has values from {low:g} to {high:g}, but numbers of type {dtype} are taken as "
                         f"0 (black) to {white} (white); give uint8, or floats in 0..1")


def narrowed(picture: Image.Image, white: int) -> Image.Image:
    """A picture of deep grey, mode I;16, I or F, as 8 bit, tile by tile: it is never held as a whole in another type."""
    low, high = np.inf, -np.inf
    for _, part in tiles(picture):
        values = np.asarray(part)
        if not np.isfinite(values).all():
            raise ValueError("this picture has values that are no finite numbers; save it again as PNG or JPEG")
        low, high = min(low, values.min().item()), max(high, values.max().item())
    check_values(low, high, values.dtype, white)
    whole = Image.new("L", picture.size)
    for place, part in tiles(picture):
        whole.paste(Image.fromarray(in_bytes(np.asarray(part), white)), place)
    return whole


def over_white(picture: Image.Image) -> Image.Image:
    """A picture with transparency laid over white, as RGB, tile by tile."""
    whole = Image.new("RGB", picture.size)
    for place, part in tiles(picture):
        part = part.convert("RGBA")
        whole.paste(Image.alpha_composite(Image.new("RGBA", part.size, "white"), part).convert("RGB"), place)
    return whole


def tiles(picture: Image.Image) -> Iterator[tuple[tuple[int, int], Image.Image]]:
    """The picture in parts of at most TILE pixels a side, and where each belongs."""
    for top in range(0, picture.height, TILE):
        for left in range(0, picture.width, TILE):
            yield (left, top), picture.crop((left, top, min(left + TILE, picture.width), min(top + TILE, picture.height)))


def in_rgb(picture: Image.Image) -> Image.Image:
    """Upright, 8 bit, three channels: deeper values are scaled as `from_array` says, transparency is laid over white."""
    kind = picture.format
    if picture.getexif().get(ORIENTATION, 1) != 1:
        picture = ImageOps.exif_transpose(picture)
    if picture.mode == "RGB":
        return picture
    if picture.mode.startswith("I;16"):
        picture = narrowed(picture, 65_535)
    elif picture.mode in ("I", "F"):
        sixteen = picture.mode == "I" and kind in SIXTEEN_BIT
        picture = narrowed(picture, 65_535 if sixteen else 255 if picture.mode == "I" else 1)
    try:
        if picture.has_transparency_data:
            return over_white(picture)
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

"""Damaged and enormous pictures, as somebody may upload them: each becomes what a net takes, or one sentence, in 300 MB.

    python tests/faults/uploads.py [300]     so many; the seconds of the slowest are printed, 2 are allowed on a quiet core
"""
import io
import random
import struct
import sys
import zlib

import numpy as np
from forks import asked, forked, report
from PIL import Image

from vitlab.data.picture import in_rgb, opened, squared

MOST = 300              # MB
SLOW = 2.0              # seconds


def encoded(picture: Image.Image, format: str, **how) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **how)
    return buffer.getvalue()


def small() -> list[bytes]:
    """A picture of every kind that is read here and can be written."""
    noise = Image.effect_noise((90, 60), 60)
    colour = Image.merge("RGB", [noise, noise.transpose(Image.Transpose.FLIP_LEFT_RIGHT), noise])
    clear = colour.convert("RGBA")
    clear.putalpha(noise)
    grey16 = Image.fromarray(np.arange(60 * 90, dtype=np.uint16).reshape(60, 90) * 12)
    turned = Image.Exif()
    turned[274] = 6
    made = [*((colour, format, {}) for format in ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "PPM", "TGA")),
            (colour, "JPEG", {"progressive": True}), (colour, "JPEG", {"exif": turned}), (colour.quantize(16), "GIF", {}),
            (clear, "PNG", {}), (clear, "WEBP", {"lossless": True}), (clear, "TIFF", {}), (clear, "ICO", {}),
            (colour.quantize(16), "PNG", {"transparency": 3}), (grey16, "PNG", {}), (grey16, "TIFF", {}),
            (colour.convert("CMYK"), "JPEG", {}), (noise, "PNG", {}), (noise.convert("1"), "PNG", {}),
            (Image.fromarray(np.random.default_rng(0).random((60, 90), np.float32)), "TIFF", {})]
    return [encoded(picture, format, **how) for picture, format, how in made]


def png(width: int, height: int, depth: int = 8, kind: int = 0, rows: int | None = None) -> bytes:
    """A PNG of nothing but zeros that says it is so large, with so many rows of pixels in it (None: all)."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
    row = bytes(1 + (width * channels * depth + 7) // 8)
    pack = zlib.compressobj(1)
    body = b"".join(pack.compress(row) for _ in range(height if rows is None else rows)) + pack.flush()
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))]
    parts += [(b"PLTE", bytes(768)), (b"tRNS", bytes(256))] if kind == 3 else []
    parts += [(b"IDAT", body), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts)


def large() -> list[bytes]:
    """Few bytes, many pixels."""
    photo = Image.new("RGB", (8000, 6000), "teal")
    return [png(6000, 4000, 16), png(6000, 4000, 8, 6), png(6000, 4000, 16, 6), png(6000, 4000, 8, 3),
            png(732, 32_000), png(32_000, 732, 16),
            png(1, 24_000_000, rows=0), png(1, 80_000_000, rows=0), png(100_000, 100_000, rows=1), png(6000, 4000, 8, 2, rows=9),
            encoded(photo, "JPEG"), encoded(photo, "JPEG", progressive=True),
            encoded(photo.resize((6000, 4000)), "TIFF", compression="tiff_lzw")]


def mutated(data: bytes) -> bytes:
    """Some bytes changed, a part cut off, doubled, or put elsewhere."""
    found = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 5, 20))):
        at, to = random.randrange(len(found)), random.randrange(len(found))
        how = random.randrange(5)
        if how == 0:
            found[at] ^= 1 << random.randrange(8)
        elif how == 1:
            found[at:at + 4] = random.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", random.randbytes(4)))
        elif how == 2:
            del found[at:at + random.choice((1, 4, 100))]
        elif how == 3:
            found[to:to] = found[at:at + random.choice((1, 4, 100))]
        else:
            del found[random.randrange(1, len(found)):]
        if len(found) < 2:
            break
    return bytes(found)


def shown(data: bytes) -> None:
    """What becomes of an upload."""
    picture = squared(in_rgb(opened(data)), 224)
    assert picture.shape == (224, 224, 3)


def trial(data: bytes) -> tuple[str, float]:
    end = forked(shown, data)
    what = f"{data[:12]!r}, {len(data)} bytes"
    if end.signal or "\n" in end.error or end.error and not end.error.startswith("ValueError"):
        return f"{what}: {end.error or f'signal {end.signal}'}", end.seconds
    return f"{what}: {end.grown:.0f} MB" if end.grown > MOST else "", end.seconds


def main() -> int:
    count = asked(300)
    originals, big = small(), large()
    whole = [trial(data) for data in originals]
    some = big if count >= len(big) else random.sample(big, 2)
    broken = [trial(mutated(originals[n % len(originals)])) for n in range(count)]
    huge = [trial(data) for data in some]
    seconds = [each for _, each in (*whole, *broken, *huge)]
    print(f"the slowest took {max(seconds):.2f} s, {sum(each > SLOW for each in seconds)} more than {SLOW:g} s")
    refused = [forked(shown, data).error for data in originals]
    return sum(report(what, [word for word, _ in outcomes]) for what, outcomes in (
        ("uploads that are whole", whole), ("mutated uploads", broken), ("enormous uploads", huge))) + report(
        "whole uploads that are refused", refused)


if __name__ == "__main__":
    sys.exit(main() > 0)

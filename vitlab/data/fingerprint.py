"""A fingerprint of pictures: the same for the same pictures in the same order, another for others."""
import os
import zlib
from pathlib import Path

import torch
from torch import Tensor

from vitlab.data.cache import checksum

WHOLE = 2**30       # bytes of encoded pictures that are read whole
SAMPLE = 1000       # pictures that are read of a larger set, and
DECODED = 64        # of one that gives nothing but decoded pictures


def fingerprint(pictures) -> str:
    """Of an ImageSet's pictures: all bytes of those in memory; of a table's all names and sizes, and their encoded bytes.

    Of a table of more than WHOLE bytes the same SAMPLE pictures are read each time, and of pictures that come from
    elsewhere DECODED are decoded: there a change in the others that keeps names and sizes is not noticed.
    """
    if isinstance(pictures, Tensor):
        return checksum({str(tuple(pictures.shape)): pictures})
    if not hasattr(pictures, "table"):
        return of_decoded(pictures)
    return of_table(pictures.table, pictures.column)


def of_table(table, column: str) -> str:
    """Of the encoded pictures in a column of a datasets table."""
    import datasets
    plain = table.cast_column(column, datasets.Image(decode=False)).select_columns(column)
    names, sizes = [], []
    for name, file, held in encoded(plain, column):
        names.append(name)
        sizes.append(os.path.getsize(file) if held is None else len(held))
    total = zlib.crc32(repr((names, sizes)).encode())
    if sum(sizes) > WHOLE:
        plain = plain.select(sample(len(plain), SAMPLE))
    for _, file, held in encoded(plain, column):
        total = zlib.crc32(Path(file).read_bytes() if held is None else held, total)
    return f"{total:08x}"


def encoded(table, column: str):
    """Name, file and bytes of each encoded picture; bytes is None for one that lies in a file of its own."""
    import pyarrow.compute as pc
    for batch in table.with_format("arrow").iter(1000):
        pair = batch[column].combine_chunks()
        for path, held in zip(pc.struct_field(pair, "path"), pc.struct_field(pair, "bytes"), strict=True):
            file = path.as_py()
            yield os.path.basename(file or ""), file, held.as_buffer() if held.is_valid else None


def of_decoded(pictures) -> str:
    """Of Pillow images that come from anywhere."""
    total = len(pictures)
    for row in sample(len(pictures), DECODED):
        picture = pictures[row]
        total = zlib.crc32(picture.tobytes(), zlib.crc32(f"{picture.mode} {picture.size}".encode(), total))
    return f"{total:08x}"


def sample(count: int, most: int) -> list[int]:
    """The same random rows whenever it is asked, ascending."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))[:most].sort().values.tolist()

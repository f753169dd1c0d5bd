"""What the text headers of MetaImage and NRRD files have in common.

The headers are read here and not by ITK, which reads damaged files without a word and does not
survive absurd headers.
"""

import dataclasses
import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from jaxreg.io.stream import Damaged, Stream, note_surplus

LIMIT = 1 << 16  # bytes; no header is longer
_MAX_FILES = 100_000
_MM = {"mm": 1.0, "cm": 10.0, "m": 1e3, "um": 1e-3, "millimeter": 1.0, "micron": 1e-3}
_NO_UNIT = ("", "?", "none", "unknown")
T = TypeVar("T", int, float)


@dataclasses.dataclass(frozen=True, eq=False)
class Header:
    """Layout and geometry of an image.

    Attributes:
        shape: of the three axes in space.
        components: numbers per voxel.
        interleaved: whether the numbers of a voxel are beside each other; else plane by plane.
        dtype: of the stored numbers, with their byte order.
        affine: (4, 4), voxel to world RAS mm.
        codec: "raw", "gzip", "zlib" or "text".
        files: with the values, in order, equal parts in each.
        start: byte at which they begin; negative means that they end with the file.
    """

    shape: tuple[int, int, int]
    components: int
    interleaved: bool
    dtype: np.dtype
    affine: np.ndarray
    codec: str
    files: tuple[Path, ...]
    start: int

    @property
    def count(self) -> int:
        """Number of stored numbers."""
        return self.components * math.prod(self.shape)


def read_numbers(header: Header) -> np.ndarray:
    """Returns all stored numbers, (N,), in the machine's byte order.

    Raises:
        Damaged: there are fewer, or a checksum is wrong.
    """
    each, left = divmod(header.count, len(header.files))
    if left:
        raise Damaged(f"{header.count} values in {len(header.files)} files")
    parts = [_read_file(header, file, each) for file in header.files]
    values = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return values.astype(header.dtype.newbyteorder("="), copy=False)


def _read_file(header: Header, file: Path, count: int) -> np.ndarray:
    if header.codec == "text":
        return _read_text(header, file, count)
    start = header.start
    if start < 0:
        start = file.stat().st_size - count * header.dtype.itemsize
        if start < 0:
            raise Damaged(f"{file.stat().st_size} bytes of values in {file.name}")
    with Stream(file, start=start, codec=header.codec) as stream:
        values = stream.array(count, header.dtype)
        left = stream.finish()
    plane = header.components * math.prod(header.shape[:2]) * header.dtype.itemsize
    note_surplus(file, left, plane)
    return values


def _read_text(header: Header, file: Path, count: int) -> np.ndarray:
    with Stream(file, start=max(header.start, 0), codec="raw") as stream:
        if 2 * count - 1 > stream.capacity:
            raise Damaged(f"{stream.capacity} characters where the header says {count} numbers")
        words = stream.text(stream.capacity).split()
    try:
        values = np.array(words, np.float64)
    except ValueError as error:
        raise Damaged("values that are no numbers") from error
    if len(values) != count or not np.all(np.isfinite(values)):
        raise Damaged(f"{len(values)} numbers where the header says {count}")
    return values.astype(header.dtype)


def numbers(text: str, kind: Callable[[str], T], name: str, count: int) -> list[T]:
    """Returns the numbers in a field of a header.

    Args:
        text: of the field; commas separate as spaces do.
        kind: converts a word, int or float.
        name: of the field, for the message.
        count: how many there must be.

    Returns:
        The numbers.

    Raises:
        Damaged: another count, or what is no finite number.
    """
    try:
        values = [kind(word) for word in text.replace(",", " ").split()]
        finite = all(math.isfinite(value) for value in values)
    except (ValueError, OverflowError):  # words, or integers that no float holds
        values, finite = [], False
    if not values or not finite:
        raise Damaged(f"'{_short(text)}' as {name}")
    if len(values) != count:
        raise Damaged(f"{len(values)} numbers as {name}, not {count}")
    return values


def unit_mm(units: Sequence[str], name: str) -> float:
    """Returns the length of the unit of a header in mm; 1 where it has none.

    Args:
        units: of each axis.
        name: of the field, for the message.

    Raises:
        Damaged: an unknown unit, or several.
    """
    given = {unit.strip().lower() for unit in units} - set(_NO_UNIT)
    if not given:
        return 1.0
    lengths = {_MM.get(unit.removesuffix("s")) for unit in given}
    length = lengths.pop()
    if lengths or length is None:
        raise Damaged(f"'{_short(', '.join(sorted(given)))}' as {name}")
    return length


def sizes(text: str, name: str, count: int) -> list[int]:
    """Returns the lengths of axes in a field of a header.

    Args:
        text: of the field.
        name: of the field, for the message.
        count: number of axes.

    Returns:
        Lengths in voxels, all above 0.

    Raises:
        Damaged: another count, or a length that is no integer above 0.
    """
    values = numbers(text, int, name, count)
    if min(values) < 1:
        raise Damaged(f"'{_short(text)}' as {name}")
    return values


def listed_files(folder: Path, text: str, following: list[str]) -> tuple[Path, ...]:
    """Returns the files with the values: one, LIST (a name a line follows), or a numbered row.

    Args:
        folder: of the header.
        text: a name, "LIST", or "slice%03d.raw FIRST LAST STEP".
        following: lines after the header.

    Raises:
        Damaged: the row cannot be made out.
        FileNotFoundError: one of them is not there.
    """
    row = re.fullmatch(r"(.*%0?(\d*)d\S*)\s+(\d+)\s+(\d+)\s+(\d+)(?:\s+\d+)?", text)
    if text.split()[:1] == ["LIST"]:
        found = [line.strip() for line in following if line.strip()]
    elif row:
        first, last, step = (int(row[k]) for k in (3, 4, 5))
        if step < 1 or not 0 <= last - first < _MAX_FILES:
            raise Damaged(f"'{_short(text)}' as names of files")
        width = min(int(row[2] or 0), 20)
        found = [
            re.sub(r"%0?\d*d", str(k).zfill(width), row[1]) for k in range(first, last + 1, step)
        ]
    else:
        found = [text]
    if not found or not all(found):
        raise Damaged("no name of a file with the values")
    return tuple(_existing(folder, name) for name in found)


def _existing(folder: Path, name: str) -> Path:
    try:
        path = folder / name
        there = path.is_file()
    except (OSError, ValueError) as error:
        raise Damaged(f"'{_short(name)}' as name of a file") from error
    if not there:
        raise FileNotFoundError(
            f"{path}: expected the voxel values that the header names, got no such file. Copy it "
            "beside the header, under that name."
        )
    return path


def read_start(path: str | os.PathLike) -> bytes:
    """Returns the first bytes of a file, in which a whole header lies."""
    with open(path, "rb") as file:
        return file.read(LIMIT)


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."

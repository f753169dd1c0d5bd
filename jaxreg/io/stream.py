"""Bytes of a file, compressed or not, read to the end, so that a checksum is never skipped."""

import io
import os
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from isal import igzip, isal_zlib

from jaxreg.io.notes import note

_GZIP = b"\x1f\x8b"
_MAX_RATIO = 1032  # deflate makes no more of a byte
_CHUNK = 1 << 20
_BROKEN: tuple[type[Exception], ...] = (zlib.error, isal_zlib.error)  # pyright: ignore[reportAssignmentType] (a stub calls a class an object)
_DAMAGED = (EOFError, OSError, *_BROKEN)


class Damaged(ValueError):
    """The file is not whole; the text says in what way, without the name of the file."""


class Stream:
    """A file opened for reading, from some byte on.

    Attributes:
        capacity: no more bytes than these can come out of the file.
        compressed: whether a checksum stands at the end.
    """

    def __init__(self, path: str | os.PathLike, *, start: int = 0, codec: str = "auto"):
        """Opens the file; use as a context manager.

        Args:
            path: of the file.
            start: bytes to leave out.
            codec: "raw", "gzip", "zlib", or "auto": gzip if the first bytes say so, else raw.
        """
        self._raw: BinaryIO = open(path, "rb")
        size = max(Path(path).stat().st_size - start, 0)
        self._raw.seek(start)
        if codec == "auto":
            codec = "gzip" if self._raw.read(2) == _GZIP else "raw"
            self._raw.seek(start)
        self.compressed = codec != "raw"
        self.capacity = _MAX_RATIO * size if self.compressed else size
        openers = {"gzip": lambda raw: igzip.IGzipFile(fileobj=raw), "zlib": _Zlib}
        self._file = openers[codec](self._raw) if self.compressed else self._raw

    def __enter__(self) -> "Stream":
        """Nothing more to do."""
        return self

    def __exit__(self, *_) -> None:
        """Closes the file."""
        self._file.close()
        self._raw.close()

    def read(self, count: int) -> bytes:
        """Returns `count` bytes, fewer only at the end of the file.

        Raises:
            Damaged: the compressed data are not whole.
        """
        try:
            return self._file.read(count)
        except _DAMAGED as error:
            raise Damaged(_reason(error)) from error

    def skip(self, count: int) -> None:
        """Passes over bytes, which must be there.

        Raises:
            Damaged: the file ends before.
        """
        while count > 0:
            part = len(self.read(min(count, _CHUNK)))
            if part == 0:
                raise Damaged("an early end")
            count -= part

    def array(self, count: int, dtype: np.dtype) -> np.ndarray:
        """Returns numbers of one type.

        Args:
            count: how many.
            dtype: their type in the file.

        Returns:
            Numbers, (count,).

        Raises:
            Damaged: the file holds fewer; raised before memory is allocated where its size says so.
        """
        wanted = count * dtype.itemsize
        if wanted > self.capacity:
            raise Damaged(f"at most {self.capacity} bytes where the header says {wanted}")
        numbers = np.empty(count, dtype)
        view, filled = memoryview(numbers.view(np.uint8).data), 0
        while filled < wanted:
            try:
                part = self._file.readinto(view[filled : filled + _CHUNK])  # pyright: ignore[reportAttributeAccessIssue]
            except _DAMAGED as error:
                raise Damaged(_reason(error)) from error
            if not part:
                raise Damaged(f"an early end: {filled} of {wanted} bytes of values")
            filled += part
        return numbers

    def text(self, limit: int) -> str:
        """Returns all that is left, at most `limit` characters, of a text file."""
        return self.read(limit).decode("latin-1")

    def finish(self) -> int:
        """Goes to the end, past which a compressed file has its checksum.

        Returns:
            How many bytes were left.
        """
        if not self.compressed:
            position = self._raw.tell()
            return self._raw.seek(0, os.SEEK_END) - position
        left = 0
        while part := len(self.read(_CHUNK)):
            left += part
        return left


class _Zlib(io.RawIOBase):
    """Reads zlib's own format (RFC 1950), as MetaImage has it, and its checksum."""

    def __init__(self, raw: BinaryIO):
        self._raw = raw
        self._inflate = zlib.decompressobj()

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer) -> int:
        """Fills the buffer as far as one chunk goes; 0 at the end of the data."""
        while not self._inflate.eof:
            chunk = self._inflate.unconsumed_tail or self._raw.read(_CHUNK)
            values = self._inflate.decompress(chunk, len(buffer))
            if values:
                buffer[: len(values)] = values
                return len(values)
            if not chunk:
                raise EOFError
        return 0


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()).rstrip(".")
    if text.startswith(("CRC check failed", "Incorrect length")) or "data check" in text:
        return "a wrong checksum"
    if isinstance(error, EOFError):
        return "an early end"
    if isinstance(error, _BROKEN):
        return f"damaged compression ({text})"
    return text or type(error).__name__


def note_surplus(path: str | os.PathLike, left: int, plane: int) -> None:
    """Warns of a file with values that its header does not count: sizes or type may be wrong.

    Args:
        path: of the file.
        left: bytes that were not read.
        plane: bytes of one plane of voxels; fewer are no values.
    """
    if left >= plane:
        note(
            path,
            "surplus-values",
            f"the file holds {left} bytes more than the header says; they are left out. The size "
            "or the type in the header may be wrong: look at the image.",
        )

"""A DICOM series without its pixels: its date, and what is needed to write into its study."""

import dataclasses
import datetime
import os
import warnings
from pathlib import Path
from typing import Any

from jaxreg.geometry.grid import Grid
from jaxreg.io.dicom import slices_of_series
from jaxreg.io.dicom_slices import grid_of
from jaxreg.io.source import Source


@dataclasses.dataclass(frozen=True, eq=False)
class Series:
    """What the writers of DICOM need of a series.

    Attributes:
        header: the data set of its first slice, without pixels.
        grid: of its slices.
        instances: SOPClassUID and SOPInstanceUID of each file, in the order of the slices.
    """

    header: Any
    grid: Grid
    instances: tuple[tuple[str, str], ...]


def read_series(path: str | os.PathLike, *, series: str | None = None) -> Series:
    """The headers of a series.

    Args:
        path: a folder, or a file of the series wanted.
        series: SeriesInstanceUID or its end, or SeriesNumber, to choose one of several.

    Returns:
        What the writers need.

    Raises:
        ValueError: as `read_values`, or the series has no study or no frame of reference.
    """
    stack = slices_of_series(path, series)
    header = _header(stack[0].path)
    for name in ("StudyInstanceUID", "FrameOfReferenceUID"):
        if not header.get(name):
            raise ValueError(
                f"{stack[0].path}: expected {name}, which says where the series belongs, got none. "
                "Export the scan again."
            )
    kind = str(header.get("SOPClassUID", ""))
    instances = tuple(dict.fromkeys((kind, item.uid) for item in stack))
    return Series(header, grid_of(stack, path), instances)


def read_date(path: str | os.PathLike, *, series: str | None = None) -> datetime.date | None:
    """The date of the study of a series.

    Args:
        path: a folder, or a file of the series wanted.
        series: as in `read_series`.

    Returns:
        StudyDate; None where there is none.

    Raises:
        FileNotFoundError: no such file or folder.
        ValueError: as `read_series`.
    """
    return _date(_header(slices_of_series(path, series)[0].path))


def source_of(file: Path, name: str) -> Source:
    """Which scan a series is.

    Args:
        file: one of its files.
        name: of the file or folder that was given.

    Returns:
        Its date, number and description.
    """
    header = _header(file)
    date = _date(header)
    number, text = (_text(header, key) for key in ("SeriesNumber", "SeriesDescription"))
    return Source(name, date.isoformat() if date else None, number, text)


def _date(header: Any) -> datetime.date | None:
    """StudyDate; None where there is none."""
    try:
        return datetime.datetime.strptime(_text(header, "StudyDate") or "", "%Y%m%d").date()
    except ValueError:
        return None


def _text(header: Any, name: str) -> str | None:
    """An attribute in one line; None where it is absent or damaged."""
    try:
        words = str(header.get(name) or "").split()
    except Exception:  # pydicom converts values as they are asked for
        return None
    return " ".join(words).encode("utf-8", "replace").decode("utf-8") or None


def _header(path: Path) -> Any:
    """All attributes in a file but the pixels; pydicom's doubts are kept from the user."""
    import pydicom

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(path, force=True, stop_before_pixels=True)

"""CT scans as DICOM: one file a slice, or enhanced multi-frame, through the package pydicom.

A path is a folder, or one file, which stands for the series that it belongs to. A folder may hold
anything else: files that are not DICOM, localizers, duplicates and other series are left out, with
a FileWarning where a person may have meant them.
"""

import itertools
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxreg.geometry.grid import Grid
from jaxreg.io.dicom_slices import (
    Slice,
    by_position,
    damaged,
    grid_of,
    largest_stack,
    slices_of,
)
from jaxreg.io.notes import note

_TAGS = (
    *(
        "StudyDate",
        "SOPInstanceUID",
        "SeriesInstanceUID",
        "SeriesNumber",
        "SeriesDescription",
        "Modality",
    ),
    *("ImageType", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"),
    *("RescaleSlope", "RescaleIntercept"),
    *("ImageComments", "TemporalPositionIndex", "TemporalPositionIdentifier"),
    *("RespiratorySynchronizationSequence", "NominalPercentageOfRespiratoryPhase"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
)
_MAX_FILES = 20_000
_SHORTEST_END = 4  # of a UID, as a choice
_BARE = (b"\x02\x00", b"\x08\x00")  # first tag of a file without the usual preamble


def is_dicom(path: str | os.PathLike) -> bool:
    """Returns whether a file says by its bytes that it is DICOM."""
    path = Path(path)
    if path.is_dir():
        return False
    if not path.is_file():
        return path.suffix.lower() == ".dcm"  # missing: let the reader say so
    with open(path, "rb") as file:
        start = file.read(132)
    return start[128:] == b"DICM" or (path.suffix.lower() == ".dcm" and start[:2] in _BARE)


def read_values(path: str | os.PathLike, *, series: str | None = None) -> tuple[np.ndarray, Grid]:
    """Returns the values in HU, float32, (X, Y, Z), and the grid.

    Args:
        path: a folder, or a file of the series wanted.
        series: SeriesInstanceUID or its end, or SeriesNumber, to choose one of several.

    Raises:
        FileNotFoundError: no such file or folder.
        ImportError: pydicom is not installed, or no decoder for compressed pixels.
        ValueError: no series, or several, that are volumes; slices that are missing or damaged.
    """
    return values_of(slices_of_series(path, series), path)


def values_of(stack: Sequence[Slice], path: str | os.PathLike) -> tuple[np.ndarray, Grid]:
    """Returns the values in HU, float32, (X, Y, Z), and the grid of slices in their order.

    Args:
        stack: one slice at each position, along their normal.
        path: for messages.

    Raises:
        ImportError: no decoder for compressed pixels.
        ValueError: the slices have gaps, pixels are damaged, or some have no rescale to HU.
    """
    grid = grid_of(stack, path)
    bare = [item for item in stack if not item.rescaled]
    if 0 < len(bare) < len(stack):
        raise ValueError(
            f"{path}: expected RescaleSlope and RescaleIntercept in all slices, got none in "
            f"{len(bare)} of {len(stack)}, such as {bare[0].path.name}. Export the scan again."
        )
    values = np.empty(grid.shape[::-1], np.float32)
    decoded: tuple[Path, np.ndarray] | None = None
    for z, item in enumerate(stack):
        if decoded is None or decoded[0] != item.path:
            decoded = item.path, _pixels(item.path)
        values[z] = _in_hu(decoded[1], item)
    return values.T, grid


def read_grid(path: str | os.PathLike, *, series: str | None = None) -> Grid:
    """Returns the grid of a series, from its headers alone.

    Args:
        path: a folder, or a file of the series wanted.
        series: as in `read_values`.

    Returns:
        The grid.

    Raises:
        FileNotFoundError: no such file or folder.
        ImportError: pydicom is not installed.
        ValueError: no series, or several, that are volumes; slices that are missing or damaged.
    """
    return grid_of(slices_of_series(path, series), path)


def slices_of_series(path: str | os.PathLike, series: str | None) -> list[Slice]:
    """The slices of the one series wanted, in order, one at each position.

    Args:
        path: a folder, or a file of the series wanted.
        series: as in `read_values`.

    Returns:
        The slices.

    Raises:
        FileNotFoundError: no such file or folder.
        ValueError: no series, or several, that are volumes.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: expected DICOM, got no such file. Check the name.")
    headers = read_headers(path)
    if path.is_file():
        wanted = next((h for p, h in headers if p == path), None)
        uid = None if wanted is None else str(wanted.get("SeriesInstanceUID", ""))
        headers = [(p, h) for p, h in headers if str(h.get("SeriesInstanceUID", "")) == uid]
    found: dict[str, list[tuple[Path, Any]]] = {}
    for file, header in headers:
        found.setdefault(str(header.get("SeriesInstanceUID", "")), []).append((file, header))
    stacks = {uid: slices_in(items) for uid, items in found.items()}
    uid = _chosen(path, series, found, {uid: largest_stack(s) for uid, s in stacks.items()})
    stack = largest_stack(stacks[uid])
    _note_left_out(path, len(stacks[uid]) - len(stack))
    return without_duplicates(stack, path)


def slices_in(items: Sequence[tuple[Path, Any]]) -> list[Slice]:
    """Returns the slices in files, given with their headers."""
    return [
        item for path, header in items if may_be_image(header) for item in slices_of(header, path)
    ]


def may_be_image(header: Any) -> bool:
    """Returns whether a header is not that of a contour, a dose or a report."""
    return str(header.get("Modality", "")) not in ("SEG", "RTSTRUCT", "RTDOSE", "SR", "PR")


def _chosen(path: Path, series: str | None, found: dict[str, Any], stacks: dict[str, Any]) -> str:
    """UID of the series that is wanted: the one that was named, or the only volume."""
    headers = {uid: files[0][1] for uid, files in found.items()}

    def selected(choice: str) -> list[str]:
        return [uid for uid in stacks if stacks[uid] and _is_named(uid, headers[uid], choice)]

    volumes = [uid for uid, stack in stacks.items() if len(stack) > 1]
    if series is not None:
        volumes = selected(series)
    if len(volumes) == 1:
        return volumes[0]
    listed = volumes if series is None and volumes else list(stacks)
    told = "; ".join(
        f"--series {_choice(uid, headers[uid], selected)} ({_about(headers[uid], stacks[uid])})"
        for uid in listed
    )
    if series is not None:
        raise ValueError(
            f"{path}: expected one DICOM series '{series}', got {len(volumes)} among {told}. "
            "Choose one of these."
        )
    if not volumes:
        raise ValueError(
            f"{path}: expected a DICOM series of slices with ImagePositionPatient, got "
            f"{told or 'none'}. Give a folder with the files of one scan."
        )
    raise ValueError(
        f"{path}: expected one DICOM series, got {len(volumes)} that are volumes: {told}. Choose "
        "one with --series, or give one of its files."
    )


def _is_named(uid: str, header: Any, choice: str) -> bool:
    return uid.endswith(choice) or str(header.get("SeriesNumber", "")) == choice


def _choice(uid: str, header: Any, selected: Callable[[str], list[str]]) -> str:
    """The shortest word for --series that means one series: its number, or the end of its UID."""
    number = str(header.get("SeriesNumber") or "")
    ends = [uid[-length:] for length in range(min(_SHORTEST_END, len(uid)), len(uid) + 1)]
    return next((word for word in [number, *ends] if word and selected(word) == [uid]), uid)


def _about(header: Any, stack: Sequence[Slice]) -> str:
    """Date, number of slices and description of a series."""
    date = str(header.get("StudyDate") or "")
    shown = [f"{date[:4]}-{date[4:6]}-{date[6:]}"] if len(date) == 8 and date.isdigit() else []
    text = " ".join(str(header.get("SeriesDescription") or "").split())
    return ", ".join([*shown, f"{len(stack)} slices", *([f"'{text}'"] if text else [])])


def without_duplicates(stack: Sequence[Slice], path: Path) -> list[Slice]:
    """Returns one slice at each position; those that are repeated must be the same.

    Args:
        stack: slices of one series.
        path: for messages.

    Returns:
        The slices along their normal.

    Raises:
        ValueError: two slices at one position differ.
    """
    groups = by_position(stack)
    repeated = [group for group in groups if len(group) > 1]
    for first, *others in repeated:
        for other in others:
            if not _same_pixels(first, other):
                raise ValueError(
                    f"{path}: expected one slice at each position, got {len(stack)} slices at "
                    f"{len(groups)} positions, such as {first.path.name} and {other.path.name}, "
                    "which differ. Two phases or reconstructions are in one series: move one away."
                )
    if repeated:
        count = len(stack) - len(groups)
        note(path, "duplicate-slices", f"{count} slices are there twice; one of each is used.")
    return [group[0] for group in groups]


def _same_pixels(a: Slice, b: Slice) -> bool:
    return np.array_equal(_in_hu(_pixels(a.path), a), _in_hu(_pixels(b.path), b))


def _note_left_out(path: Path, count: int) -> None:
    if count:
        note(
            path,
            "slices-left-out",
            f"{count} images of the series are not parallel to the others or of another size "
            "(a localizer?); they are left out.",
        )


def read_headers(path: Path) -> list[tuple[Path, Any]]:
    """Returns the DICOM files of a folder, or below if it has none itself, and their headers.

    Args:
        path: the folder, or a file in it.

    Returns:
        Path and header of each file, in the order of their names.

    Raises:
        ImportError: pydicom is not installed.
        ValueError: there are far too many files, or a header is damaged.
    """
    folder = path if path.is_dir() else path.parent
    for files in (folder.iterdir(), folder.rglob("*")):
        some = sorted(itertools.islice(files, _MAX_FILES + 1))
        if len(some) > _MAX_FILES:
            raise ValueError(
                f"{path}: expected a folder with the files of one scan, got more than {_MAX_FILES} "
                "files. Give the folder of the scan itself."
            )
        headers = [(file, _dataset(file, pixels=False)) for file in some if is_dicom(file)]
        if headers or path.is_file():
            return headers
    return []


def _dataset(path: Path, *, pixels: bool) -> Any:
    """The attributes in a file; pydicom's warnings about others are not shown."""
    pydicom = _pydicom(path)
    tags = None if pixels else list(_TAGS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dataset = pydicom.dcmread(
                path, force=True, stop_before_pixels=not pixels, specific_tags=tags
            )
            for tag in [] if pixels else list(dataset.keys()):
                dataset[tag]  # converts the value, which fails where it is damaged
        except Exception as error:  # pydicom names no class for damaged bytes
            raise ValueError(damaged(path, error)) from error
    return dataset


def _pixels(path: Path) -> np.ndarray:
    """Stored numbers, (rows, columns) or (frames, rows, columns)."""
    dataset = _dataset(path, pixels=True)
    if dataset.get("SamplesPerPixel", 1) != 1:
        raise ValueError(
            f"{path}: expected one number per pixel, got a colour image. Give the CT itself."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return dataset.pixel_array
        except (ImportError, NotImplementedError, RuntimeError) as error:
            if "missing dependencies" not in str(error):
                raise ValueError(damaged(path, error)) from error
            raise ImportError(
                f"{path}: expected a decoder for {dataset.file_meta.TransferSyntaxUID.name}, got "
                "none. Install it with: pip install 'jaxreg[dicom]'"
            ) from error
        except Exception as error:  # pydicom names no class for damaged bytes
            raise ValueError(damaged(path, error)) from error


def _in_hu(pixels: np.ndarray, item: Slice) -> np.ndarray:
    """The pixels of a slice, float32, (rows, columns)."""
    stored = pixels if item.frame is None or pixels.ndim == 2 else pixels[item.frame]
    if stored.shape != item.size:
        raise ValueError(
            f"{item.path}: expected {item.size[0]} rows and {item.size[1]} columns, got pixels of "
            f"shape {stored.shape}. Export the scan again."
        )
    return stored.astype(np.float32) * np.float32(item.slope) + np.float32(item.intercept)


def _pydicom(path: Path) -> Any:
    try:
        import pydicom
    except ImportError as error:
        raise ImportError(
            f"{path}: expected the package pydicom, which reads DICOM, got none. Install it with: "
            "pip install 'jaxreg[dicom]'"
        ) from error
    return pydicom

"""Slices of a DICOM series and the grid that they make.

The grid is that of ImagePositionPatient, ImageOrientationPatient and PixelSpacing of the slices
(DICOM PS3.3 C.7.6.2) and of nothing else: the third axis is the step from slice to slice, which a
tilted gantry does not leave at right angles with the other two. Lengths are mm, vectors LPS.
"""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxreg.geometry.grid import Grid

_RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SAME_DIRECTION = 1e-4  # by which direction cosines of one stack may differ
_SAME_POSITION = 0.01  # mm
_UNEVEN = 0.1  # of a step: by which a slice may lie beside its even position


@dataclasses.dataclass(frozen=True, eq=False)
class Slice:
    """One image of a series, or one frame of a multi-frame image.

    Attributes:
        path: its file.
        frame: number of the frame in the file, from 0; None in a file with one image.
        uid: SOPInstanceUID.
        size: rows and columns.
        position: centre of the first voxel, (3,).
        directions: along which the column index and the row index grow, (2, 3).
        spacing: from column to column and from row to row.
        slope, intercept: HU = stored value * slope + intercept.
        rescaled: whether the header has one of them; else they are 1 and 0.
    """

    path: Path
    frame: int | None
    uid: str
    size: tuple[int, int]
    position: np.ndarray
    directions: np.ndarray
    spacing: np.ndarray
    slope: float
    intercept: float
    rescaled: bool = True

    @property
    def normal(self) -> np.ndarray:
        """Right-handed normal of the slice, (3,)."""
        return np.cross(self.directions[0], self.directions[1])

    def is_parallel_to(self, other: "Slice") -> bool:
        """Returns whether both can be in one stack."""
        return (
            self.size == other.size
            and np.allclose(self.directions, other.directions, atol=_SAME_DIRECTION)
            and np.allclose(self.spacing, other.spacing, rtol=1e-3, atol=0)
        )


def slices_of(dataset: Any, path: Path) -> list[Slice]:
    """Returns the slices in a file; none where it has no pixels in the patient's space.

    Args:
        dataset: of pydicom, pixels not needed.
        path: of its file.

    Raises:
        ValueError: slices without PixelSpacing, or numbers that are none.
    """
    try:
        return list(_slices(dataset, path))
    except Exception as error:  # pydicom converts values as they are asked for
        if str(error).startswith(f"{path}: expected"):
            raise
        raise ValueError(damaged(path, error)) from error


def damaged(path: Path, error: Exception) -> str:
    """Returns the message about a file whose bytes or values pydicom refuses.

    Args:
        path: of the file.
        error: of pydicom.
    """
    reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return f"{path}: expected a complete DICOM file, got '{reason}'. Export or copy it again."


def _slices(dataset: Any, path: Path) -> Iterator[Slice]:
    if "Rows" not in dataset or "Columns" not in dataset:
        return
    many = "PerFrameFunctionalGroupsSequence" in dataset
    frames = range(int(dataset.get("NumberOfFrames", 1))) if many else [None]
    for frame in frames:
        plane = [
            _attribute(dataset, frame, group, name)
            for group, name in (
                ("PlanePositionSequence", "ImagePositionPatient"),
                ("PlaneOrientationSequence", "ImageOrientationPatient"),
                ("PixelMeasuresSequence", "PixelSpacing"),
            )
        ]
        if plane[0] is None or plane[1] is None:
            continue
        position, directions = _numbers(plane[0], 3, path), _numbers(plane[1], 6, path)
        slope, intercept = (
            _attribute(dataset, frame, "PixelValueTransformationSequence", name)
            for name in ("RescaleSlope", "RescaleIntercept")
        )
        yield Slice(
            path=path,
            frame=frame,
            uid=str(dataset.get("SOPInstanceUID", path)),
            size=(int(dataset.Rows), int(dataset.Columns)),
            position=position,
            directions=_unit_directions(directions, path),
            spacing=_spacing(plane[2], path),
            slope=1.0 if slope is None else _finite(slope, "RescaleSlope", path),
            intercept=0.0 if intercept is None else _finite(intercept, "RescaleIntercept", path),
            rescaled=slope is not None or intercept is not None,
        )


def largest_stack(slices: Sequence[Slice]) -> list[Slice]:
    """Returns the slices that are parallel and alike, most of all; the others are localizers."""
    stacks: list[list[Slice]] = []
    for item in slices:
        stack = next((stack for stack in stacks if stack[0].is_parallel_to(item)), None)
        if stack is None:
            stacks.append([item])
        else:
            stack.append(item)
    return max(stacks, key=len, default=[])


def by_position(stack: Sequence[Slice]) -> list[list[Slice]]:
    """Returns the slices along their normal; those at one position are together."""
    ordered = sorted(stack, key=lambda item: float(item.position @ stack[0].normal))
    groups: list[list[Slice]] = []
    for item in ordered:
        if groups and np.linalg.norm(item.position - groups[-1][0].position) < _SAME_POSITION:
            groups[-1].append(item)
        else:
            groups.append([item])
    return groups


def grid_of(stack: Sequence[Slice], path: str | os.PathLike) -> Grid:
    """Returns the grid (columns, rows, slices) of slices in order, one at each position.

    Args:
        stack: at least two.
        path: for messages.

    Raises:
        ValueError: the slices are not evenly spaced on a line, or there are too few.
    """
    positions = np.array([item.position for item in stack])
    rows, columns = stack[0].size if stack else (0, 0)
    if len(stack) < 2 or min(rows, columns) < 2:
        raise ValueError(
            f"{path}: expected a 3-D scan, got {len(stack)} slice of {rows} rows and {columns} "
            "columns. Give the folder with all slices."
        )
    step = (positions[-1] - positions[0]) / (len(stack) - 1)
    even = positions[0] + np.arange(len(stack))[:, None] * step
    beside = float(np.linalg.norm(positions - even, axis=1).max())
    if beside > _UNEVEN * np.linalg.norm(step):
        distances = np.linalg.norm(np.diff(positions, axis=0), axis=1)
        widest = int(np.argmax(distances))
        raise ValueError(
            f"{path}: expected evenly spaced slices, got distances from {distances.min():.3g} to "
            f"{distances.max():.3g} mm, the widest after slice {widest + 1} of {len(stack)} "
            f"({stack[widest].path.name}). Slices are missing, or two scans are mixed."
        )
    affine = np.eye(4)
    affine[:3, 0] = stack[0].directions[0] * stack[0].spacing[0]
    affine[:3, 1] = stack[0].directions[1] * stack[0].spacing[1]
    affine[:3, 2] = step
    affine[:3, 3] = positions[0]
    return Grid((columns, rows, len(stack)), _RAS_FROM_LPS @ affine)


def _attribute(dataset: Any, frame: int | None, group: str, name: str) -> Any:
    """An attribute of the image, or of a frame: its own functional group, else the shared one."""
    if frame is None:
        value = dataset.get(name)
        return None if value is None or value == "" else value
    groups = [dataset.PerFrameFunctionalGroupsSequence[frame]]
    groups += list(dataset.get("SharedFunctionalGroupsSequence") or [])
    for items in groups:
        if items.get(group):
            return items.get(group)[0].get(name)
    return None


def _finite(value: Any, name: str, path: Path) -> float:
    number = float(value)
    if not np.isfinite(number) or (number == 0 and name == "RescaleSlope"):
        raise ValueError(
            f"{path}: expected {name} to be a number that gives HU, got {number:g}. Export the "
            "scan again."
        )
    return number


def _numbers(values: Any, count: int, path: Path) -> np.ndarray:
    try:
        numbers = np.array([float(value) for value in values])
    except (TypeError, ValueError):
        numbers = np.zeros(0)
    if len(numbers) != count or not np.all(np.isfinite(numbers)):
        raise ValueError(
            f"{path}: expected {count} finite numbers of position or orientation, got "
            f"'{values}'. Export the scan again."
        )
    return numbers


def _unit_directions(numbers: np.ndarray, path: Path) -> np.ndarray:
    directions = numbers.reshape(2, 3)
    lengths = np.linalg.norm(directions, axis=1)
    if np.any(np.abs(lengths - 1) > 0.01) or abs(directions[0] @ directions[1]) > 0.01:
        raise ValueError(
            f"{path}: expected ImageOrientationPatient to be two directions at right angles, got "
            f"{numbers.tolist()}. Export the scan again."
        )
    return directions / lengths[:, None]


def _spacing(values: Any, path: Path) -> np.ndarray:
    """From column to column and from row to row; DICOM has them the other way round."""
    if values is None or values == "":
        raise ValueError(
            f"{path}: expected PixelSpacing, the size of a voxel, got none. Export the scan again; "
            "without it no length is known."
        )
    rows, columns = _numbers(values, 2, path)
    if min(rows, columns) <= 0:
        raise ValueError(
            f"{path}: expected PixelSpacing above 0, got {rows:g} and {columns:g} mm. Export the "
            "scan again."
        )
    return np.array([columns, rows])

"""Values of a file as an image or as labels, whatever the format."""

import contextlib
import os
from collections.abc import Iterator

import numpy as np
import scipy.ndimage

from jaxreg.geometry.grid import Grid
from jaxreg.geometry.volume import Volume
from jaxreg.io.layout import in_array_order
from jaxreg.io.notes import note

AIR_HU = -1024.0
_ROUNDING = 1e-3  # by which a slope stored in float32 makes labels differ from whole numbers


@contextlib.contextmanager
def located(path: str | os.PathLike) -> Iterator[None]:
    """Puts a path before the text of a ValueError that lacks it.

    Args:
        path: of the file that is read in the block.

    Yields:
        Nothing.

    Raises:
        ValueError: the block raised one.
    """
    try:
        yield
    except ValueError as error:
        if str(error).startswith(str(path)):
            raise
        raise ValueError(f"{path}: {error}") from error


def as_image(path: str | os.PathLike, values: np.ndarray, grid: Grid) -> Volume:
    """Returns a CT, float32; NaN outside of the field of view becomes air, with a warning.

    Args:
        path: for messages.
        values: (X, Y, Z), HU.
        grid: of the file.

    Raises:
        ValueError: NaN elsewhere, or infinity.
    """
    values = in_array_order(values, np.float32)  # what overflows is infinite and refused below
    missing = np.isnan(values)
    if missing.any() and not missing.all():
        outside = missing & _reaches_border(missing)
        values = np.where(outside, np.float32(AIR_HU), values)
        if outside.any():
            note(
                path,
                "nan-as-air",
                f"{int(outside.sum())} voxels at the border are NaN (outside of the field of "
                f"view); they are taken as air, {AIR_HU:g} HU.",
            )
    with located(path):
        return Volume(values, grid.affine)


def as_labels(path: str | os.PathLike, values: np.ndarray, grid: Grid) -> Volume:
    """Returns labels or a mask, int32; values that are whole but for rounding are rounded.

    Args:
        path: for messages.
        values: (X, Y, Z).
        grid: of the file.

    Raises:
        ValueError: values that are not whole, or that int32 does not hold.
    """
    if values.dtype.kind == "f":
        whole = np.rint(values)
        odd = ~(np.abs(values - whole) <= _ROUNDING)  # also NaN
        if odd.any():
            raise ValueError(
                f"{path}: expected whole numbers (labels or a mask), got {values[odd][0]:.9g}. "
                "Resample labels with nearest neighbours, or threshold the mask."
            )
        values = whole
    low, high = values.min(), values.max()
    limits = np.iinfo(np.int32)
    if low < limits.min or high > limits.max:
        value = low if low < limits.min else high
        raise ValueError(
            f"{path}: expected labels from {limits.min} to {limits.max}, got {value:.0f}. "
            "Number them anew."
        )
    with located(path):
        return Volume(in_array_order(values, np.int32), grid.affine)


def _reaches_border(mask: np.ndarray) -> np.ndarray:
    """Parts of a mask that are connected with a face of the image."""
    parts, _ = scipy.ndimage.label(mask)  # pyright: ignore[reportGeneralTypeIssues]
    faces = [np.unique(parts.take(end, axis)) for axis in range(3) for end in (0, -1)]
    at_border = np.unique(np.concatenate(faces))
    return np.isin(parts, at_border[at_border > 0])

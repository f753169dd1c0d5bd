"""What the folder of a registration says of its images: whether others are those, or exchanged."""

import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxreg.geometry.grid import Grid
from jaxreg.geometry.volume import DisplacementField, Volume
from jaxreg.io.documents import read_json
from jaxreg.io.nifti import read_volume
from jaxreg.pipeline.assess import MEASURED
from jaxreg.pipeline.result import correlation, values_at

SIDES = ("fixed", "moving")
_ROUNDED = 0.02  # mm: by which the numbers of a summary may differ from those of a header
_SAMPLES = 200_000
_FEWEST = 1000
_SAME_IMAGE = 0.98  # correlation of one image, resampled or rounded on the way
_SAME_CORRELATION = 0.05


def record_of(field: Path) -> Mapping[str, Any] | None:
    """The summary of the registration that wrote a field.

    Args:
        field: the file of the field.

    Returns:
        What summary.json beside it holds; None where the field is not that of a folder of results.
    """
    path = field.with_name("summary.json")
    if field.name != "displacement.nii.gz" or not path.is_file():
        return None
    found = read_json(path)
    named = isinstance(found, dict) and all(f"{side}_grid" in found for side in SIDES)
    return found if named else None


def sides_of(grid: Grid, record: Mapping[str, Any]) -> tuple[str, ...]:
    """Which of the two images lie on a grid, whatever the order of its axes.

    Args:
        grid: of an image.
        record: the summary of the registration.

    Returns:
        Some of "fixed" and "moving".
    """
    return tuple(side for side in SIDES if _is_told(grid, str(record[f"{side}_grid"])))


def require_side(grid: Grid, side: str, record: Mapping[str, Any]) -> None:
    """Checks that an image is on the grid of the one that was registered.

    Args:
        grid: of the image.
        side: "fixed" or "moving", what the image is given as.
        record: the summary of the registration.

    Raises:
        ValueError: it is on another grid.
    """
    found = sides_of(grid, record)
    if side in found:
        return
    advice = "Give that series."
    if found:
        advice = f"It is on the grid of the {found[0]} image: exchange --fixed and --moving."
    raise ValueError(
        f"--{side}: expected the series that was registered, on the grid {record[f'{side}_grid']}, "
        f"got {grid}. {advice}"
    )


def require_registered_images(
    folder: Path,
    field: DisplacementField,
    fixed: Volume,
    moving: Volume,
    record: Mapping[str, Any],
) -> None:
    """Checks by their values that two images are those that were registered.

    Grids do not tell two phases of one scan apart. The moving image, sampled where the field says,
    must be warped.nii.gz; the fixed one must correlate with it as the summary says. Where
    warped.nii.gz or valid.nii.gz was not written, nothing is checked.

    Args:
        folder: of the registration.
        field: that was written.
        fixed: HU, on the grid of the fixed image, its axes in any order.
        moving: the same for the moving image.
        record: the summary of the registration.

    Raises:
        ValueError: an image is another one.
    """
    paths = [folder / f"{name}.nii.gz" for name in ("warped", "valid")]
    if not all(path.is_file() for path in paths):
        return
    warped, valid = (read_volume(path) for path in paths)
    chosen = np.flatnonzero(valid.data == MEASURED)
    chosen = chosen[:: max(1, len(chosen) // _SAMPLES)]
    if len(chosen) < _FEWEST:
        return
    saved = warped.data.reshape(-1)[chosen]
    points = warped.world_from_voxel(np.stack(np.unravel_index(chosen, warped.shape), axis=1))
    same = correlation(values_at(moving, field.transform_points(points)), saved)
    if not same > _SAME_IMAGE:
        raise ValueError(
            "--moving: expected the image that was registered as MOVING, got one whose warped "
            f"values are not those of warped.nii.gz (correlation {same:.3f}). Check that --fixed "
            "and --moving are not exchanged."
        )
    found, told = correlation(values_at(fixed, points), saved), record.get("correlation_after")
    if told is not None and not abs(found - told) < _SAME_CORRELATION:
        raise ValueError(
            "--fixed: expected the image that was registered as FIXED, whose correlation with "
            f"warped.nii.gz is {told:.3f}, got one with {found:.3f}. Give that image."
        )


def _is_told(grid: Grid, text: str) -> bool:
    """Whether a text, as `str(Grid)`, is that of a grid with its axes in any order."""
    return any(_same_text(str(turned), text) for turned in _turned(grid))


def _same_text(a: str, b: str) -> bool:
    """Whether two texts are the same but for the rounding of their numbers."""
    number = r"-?\d+\.?\d*(?:e[+-]?\d+)?"
    if re.sub(number, "", a) != re.sub(number, "", b):
        return False
    numbers = [[float(n) for n in re.findall(number, text)] for text in (a, b)]
    return np.allclose(*numbers, rtol=0, atol=_ROUNDED)


def _turned(grid: Grid) -> Iterator[Grid]:
    """The same voxels with their axes in every order and direction."""
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            x, y, z = (grid.shape[axis] for axis in order)
            step = np.eye(4)
            step[:3, :3] = np.eye(3)[:, order] * np.array(signs)
            for axis, sign in zip(order, signs, strict=True):
                step[axis, 3] = 0 if sign > 0 else grid.shape[axis] - 1
            yield Grid((x, y, z), grid.affine @ step)

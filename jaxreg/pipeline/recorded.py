"""What the folder of a registration says of its images: whether others are those, or exchanged."""

from collections.abc import Mapping
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
_SAMPLES = 200_000
_FEWEST = 1000
_SAME_IMAGE = 0.98  # correlation of one image, resampled or rounded on the way
_SAME_CORRELATION = 0.05


def record_of(field: Path) -> Mapping[str, Any] | None:
    """The summary of the registration that wrote a field.

    Args:
        field: the file of the field.

    Returns:
        What summary.json beside it holds; None where the field is not that of a folder of results,
        or where an earlier version wrote it, with the grids in words.
    """
    path = field.with_name("summary.json")
    if field.name != "displacement.nii.gz" or not path.is_file():
        return None
    found = read_json(path)
    known = isinstance(found, dict) and all(_grid(found, side) is not None for side in SIDES)
    return found if known else None


def sides_of(grid: Grid, record: Mapping[str, Any]) -> tuple[str, ...]:
    """Which of the two images lie on a grid, whatever the order of its axes.

    Args:
        grid: of an image.
        record: the summary of the registration.

    Returns:
        Some of "fixed" and "moving".
    """
    told = {side: _grid(record, side) for side in SIDES}
    return tuple(side for side, own in told.items() if own is not None and own.has_voxels_of(grid))


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
        f"--{side}: expected the series that was registered, on the grid {_grid(record, side)}, "
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
    found = correlation(values_at(fixed, points), saved)
    require_same_correlation(found, record.get("correlation_after"), "--fixed")


def require_same_correlation(found: float, told: float | None, name: str) -> None:
    """Checks that a fixed image correlates with warped.nii.gz as the one that was registered.

    Args:
        found: the correlation where both images show lung.
        told: that of the summary; None if it says none, and nothing is checked.
        name: of the image, for the message.

    Raises:
        ValueError: it is another image, such as another phase.
    """
    if told is not None and not abs(found - told) < _SAME_CORRELATION:
        raise ValueError(
            f"{name}: expected the image that was registered as FIXED, whose correlation with "
            f"warped.nii.gz is {told:.3f}, got one with {found:.3f}. Give that image."
        )


def _grid(record: Mapping[str, Any], side: str) -> Grid | None:
    return Grid.from_document(record.get(f"{side}_grid"))

"""Ventilation by regions: the lungs, each lung, thirds of its height, and labels such as lobes.

The regions of a group ("lung", "third", "label") part the measured lungs: their volumes, their air
and its change add up to those of the lungs.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Integer

from jaxreg.lungs.sides import LEFT, RIGHT
from jaxreg.metrics.ventilation import Inhaled, masses
from jaxreg.ops.types import Mask

_SIDES = {RIGHT: "right", LEFT: "left"}
_THIRDS = ("lower", "middle", "upper")
_HEIGHT = (1, 99)  # percentiles of the voxels
_PERCENTILES = (5, 25, 50, 75, 95)


class Region(NamedTuple):
    """A part of the lungs.

    Attributes:
        name: such as "right upper third".
        group: "lungs", "lung", "third" or "label".
        inside: of the voxels of the lungs, (N,).
    """

    name: str
    group: str
    inside: Bool[np.ndarray, "N"]


def thirds_of_height(
    sides: Integer[np.ndarray, "N"], height_mm: Float[np.ndarray, "N"]
) -> Integer[np.ndarray, "N"]:
    """Thirds of the height of each lung, without the lowest and the highest hundredth of it.

    The height runs from the 1st to the 99th percentile of its voxels, so that a thin recess or a
    stray voxel does not move the thirds; what lies beyond is lower or upper third.

    Args:
        sides: of the voxels of the lungs, 1 right and 2 left.
        height_mm: of these voxels, towards the head.

    Returns:
        1 lower, 2 middle and 3 upper third of the right lung, 4 to 6 of the left one.
    """
    thirds = np.zeros(len(sides), np.uint8)
    for side in _SIDES:
        lung = sides == side
        if lung.any():
            heights = height_mm[lung]
            low, high = np.percentile(heights, _HEIGHT)
            step = np.floor(3 * (heights - low) / max(high - low, 1e-6))
            thirds[lung] = 1 + np.clip(step, 0, 2) + 3 * (side - 1)
    return thirds


def regions_of_lungs(
    thirds: Integer[np.ndarray, "N"], *, labels: Integer[np.ndarray, "N"] | None = None
) -> Iterator[Region]:
    """Yields the regions of a table, those that have a voxel.

    Args:
        thirds: of the voxels of the lungs, by `thirds_of_height`.
        labels: of these voxels, such as lobes; 0 is outside of them. None where none are given.
    """
    yield Region("lungs", "lungs", np.ones(len(thirds), bool))
    found = []
    for side, name in _SIDES.items():
        found.append(Region(f"{name} lung", "lung", (thirds > 3) == (side == LEFT)))
    for side, name in _SIDES.items():
        for third in (3, 2, 1):
            inside = thirds == third + 3 * (side - 1)
            found.append(Region(f"{name} {_THIRDS[third - 1]} third", "third", inside))
    if labels is not None:
        for label in np.unique(labels[labels > 0]).tolist():
            found.append(Region(f"label {label}", "label", labels == label))
        found.append(Region("outside the labels", "label", labels <= 0))
    yield from (region for region in found if region.inside.any())


def region_row(
    region: Region,
    measured: Bool[np.ndarray, "N"],
    fixed: Float[np.ndarray, "N"],
    warped: Float[np.ndarray, "N"],
    determinant: Float[np.ndarray, "N"],
    maps: Mapping[str, Float[np.ndarray, "N"]],
    *,
    inhale: Inhaled,
    voxel_ml: float,
) -> dict[str, Any]:
    """Measures of a region, at the voxels of the lungs.

    Args:
        region: of these voxels.
        measured: where both images show lung.
        fixed: HU.
        warped: HU of the moving image through the registration.
        determinant: of the Jacobian, fixed to moving.
        maps: ventilation measures by name.
        inhale: which image is the inhaled one.
        voxel_ml: volume of a voxel.

    Returns:
        Region and group; "lung_ml", with what was not measured, and "measured_fraction"; volume and
        air of the measured part in both images and their change from the exhaled to the inhaled
        one, ml; and mean and percentiles of each measure, None where nothing was measured.
    """
    part = region.inside & measured
    found = masses(fixed[part], warped[part], determinant[part])
    sign = 1 if inhale == "moving" else -1
    count = np.count_nonzero(region.inside)
    row: dict[str, Any] = {
        "region": region.name,
        "group": region.group,
        "lung_ml": float(count * voxel_ml),
        "measured_fraction": float(np.count_nonzero(part) / count),
    }
    for name in ("volume", "air"):
        ml = [value * voxel_ml for value in getattr(found, name)]
        row |= {f"{name}_fixed_ml": ml[0], f"{name}_moving_ml": ml[1]}
        row[f"{name}_change_ml"] = sign * (ml[1] - ml[0])
    for name, values in maps.items():
        row |= _distribution(name, values[part])
    return row


def with_fractions(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with "air_change_fraction", the region's part of the whole change of air.

    Args:
        rows: of `region_row`, the lungs first.

    Returns:
        New rows; the fraction is None where the whole does not change.
    """
    whole = rows[0]["air_change_ml"]
    filled = []
    for row in rows:
        fraction = row["air_change_ml"] / whole if whole else None
        items = list(row.items())
        after = list(row).index("air_change_ml") + 1
        filled.append(dict([*items[:after], ("air_change_fraction", fraction), *items[after:]]))
    return filled


def _distribution(name, values) -> dict[str, float | None]:
    names = [f"{name}_mean", *(f"{name}_p{rank}" for rank in _PERCENTILES)]
    if not len(values):
        return dict.fromkeys(names)
    ranks = np.percentile(values, _PERCENTILES).tolist()
    return dict(zip(names, [float(values.mean(dtype=np.float64)), *ranks], strict=True))


def heights_mm(mask: Mask, affine: np.ndarray) -> Float[np.ndarray, "N"]:
    """Position of the voxels of a mask towards the head.

    Args:
        mask: above 0 inside, (X, Y, Z).
        affine: (4, 4), voxel index to world, RAS mm.

    Returns:
        Heights, RAS mm, in the order of the voxels of the mask.
    """
    x, y, z = (
        affine[2, axis] * np.arange(n).reshape([-1 if a == axis else 1 for a in range(3)])
        for axis, n in enumerate(mask.shape)
    )
    height = np.broadcast_to((x + y + z + affine[2, 3]).astype(np.float32), mask.shape)
    return height[np.asarray(mask) > 0]

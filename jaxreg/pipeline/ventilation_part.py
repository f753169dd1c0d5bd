"""The part of a registered pair in which ventilation is measured, and the table of its regions."""

from typing import Any, NamedTuple

import numpy as np

from jaxreg.geometry.lung_grid import voxel_box
from jaxreg.geometry.volume import Volume
from jaxreg.lungs.sides import tell_sides
from jaxreg.metrics.ventilation import Inhaled, Measures
from jaxreg.metrics.ventilation_regions import (
    heights_mm,
    region_row,
    regions_of_lungs,
    thirds_of_height,
    with_fractions,
)
from jaxreg.pipeline.assess import MEASURED
from jaxreg.pipeline.registered import RegisteredPair


class Part(NamedTuple):
    """The box of the fixed grid that holds the lungs, and what lies in it, (X, Y, Z) each.

    Attributes:
        box: slices of the fixed grid.
        lungs: true inside.
        measured: true where both images show lung.
        hu: fixed image.
        warped: moving image, HU.
        determinant: of the Jacobian, fixed to moving.
        labels: of the fixed image; None without any.
    """

    box: tuple[slice, ...]
    lungs: np.ndarray
    measured: np.ndarray
    hu: np.ndarray
    warped: np.ndarray
    determinant: np.ndarray
    labels: np.ndarray | None


def part_of(pair: RegisteredPair, labels: Volume | None) -> Part:
    """The part of a pair that holds the lungs.

    Args:
        pair: registered, with lungs.
        labels: on the grid of its fixed image; None without any.

    Returns:
        The part.
    """
    box = voxel_box(pair.valid.data)
    valid = pair.valid.data[box]
    return Part(
        box=box,
        lungs=valid > 0,
        measured=valid == MEASURED,
        hu=pair.fixed.data[box].astype(np.float32, copy=False),
        warped=pair.warped.data[box],
        determinant=pair.determinant.data[box],
        labels=None if labels is None else labels.data[box],
    )


def thirds_of(pair: RegisteredPair, part: Part) -> np.ndarray:
    """The third of the height of its lung in which each voxel lies.

    Args:
        pair: registered.
        part: of it.

    Returns:
        As `thirds_of_height`, (N,), for the voxels of the lungs.
    """
    grid = pair.fixed.grid
    mask = Volume((pair.valid.data > 0).astype(np.uint8), pair.fixed.affine)
    sides = tell_sides(pair.fixed, mask).data[part.box][part.lungs]
    corner = np.array(grid.affine)
    corner[:3, 3] = grid.world_from_voxel(np.array([side.start for side in part.box]))
    return thirds_of_height(sides, heights_mm(part.lungs, corner))


def rows_of(
    pair: RegisteredPair, part: Part, thirds: np.ndarray, found: Measures, inhale: Inhaled
) -> list[dict[str, Any]]:
    """The table of a ventilation.

    Args:
        pair: registered.
        part: of it.
        thirds: as `thirds_of` returns them.
        found: measures within the part.
        inhale: which image is the inhaled one.

    Returns:
        A row a region.
    """
    lungs = part.lungs
    maps = {name: values[lungs] for name, values in found.maps.items()}
    measured, hu, warped, determinant = (
        image[lungs] for image in (part.measured, part.hu, part.warped, part.determinant)
    )
    voxel_ml = abs(np.linalg.det(pair.fixed.affine[:3, :3])) / 1e3
    named = None if part.labels is None else part.labels[lungs]
    return with_fractions(
        [
            region_row(
                *(region, measured, hu, warped, determinant, maps),
                inhale=inhale,
                voxel_ml=voxel_ml,
            )
            for region in regions_of_lungs(thirds, labels=named)
        ]
    )

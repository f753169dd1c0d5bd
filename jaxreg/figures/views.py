"""How scans are shown in every figure: orthogonal views, sides of the patient, colour scales.

Planes are shown as a radiologist sees them: the patient's right on the left, head and front at the
top; in sagittal planes the front on the left. Oblique images are shown along their own axes, with
the letters of the closest directions. The scales of differences and of volume change are white in
the middle, and the colour-blind can distinguish them; among volume changes red is left for folds.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize
from matplotlib.patheffects import withStroke
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

from jaxreg.geometry.grid import Box
from jaxreg.geometry.lung_grid import voxel_box
from jaxreg.geometry.volume import Volume

WINDOW_HU = (-1000.0, 200.0)  # of lungs
LUNG_WINDOW = Normalize(*WINDOW_HU)
DIFFERENCE = Normalize(-600.0, 600.0)  # HU
DIFFERENCE_COLOURS = "RdBu_r"
VOLUME_CHANGE = LogNorm(0.5, 2.0)  # det, so that halving and doubling are equally strong
VOLUME_COLOURS = LinearSegmentedColormap.from_list(
    "volume change", ["#08306b", "#4292c6", "#ffffff", "#f5c518", "#6b4a00"]
)
QUALITY = Normalize(0.0, 1.0)
QUALITY_COLOURS = "cividis"
FOLD_COLOUR = (0.86, 0.0, 0.0)
_MARGIN_MM = 15.0  # shown around the lungs


class Plane(NamedTuple):
    """A plane of an array with axes (right, anterior, superior).

    Attributes:
        name: of the plane.
        normal: axis that is cut.
        across: axis that runs from the right of the view to its left.
        up: axis that runs upwards.
        letters: of the patient at the left, right, top and bottom of the view.
    """

    name: str
    normal: int
    across: int
    up: int
    letters: str


PLANES = (
    Plane("coronal", 1, 0, 2, "RLSI"),
    Plane("axial", 2, 0, 1, "RLAP"),
    Plane("sagittal", 0, 1, 2, "APSI"),
)


def upright(volume: Volume) -> np.ndarray:
    """Returns the array with axes that run closest to right, anterior and superior."""
    return apply_orientation(volume.data, io_orientation(volume.affine))


def upright_affine(volume: Volume) -> np.ndarray:
    """Returns the (4, 4) affine of the upright array, voxel index to world mm, RAS."""
    return volume.affine @ inv_ornt_aff(io_orientation(volume.affine), volume.shape)


def side_position(volume: Volume, plane: Plane, voxel: Sequence[int]) -> str:
    """Where a plane cuts the world, with the letter of the patient's side, which needs no sign.

    Args:
        volume: image of any orientation.
        plane: which plane.
        voxel: of the upright array, which the plane goes through.

    Returns:
        Such as "P 31 mm": 31 mm towards the back from the origin of the world.
    """
    place = upright_affine(volume)[:3] @ [*voxel, 1.0]
    position = float(place[plane.normal])
    letter = ("LPI" if position < 0 else "RAS")[plane.normal]
    return f"{letter} {abs(position):.0f} mm"


def stored_box(volume: Volume, box: Box) -> Box:
    """Where the voxels in a box of the upright array are in the array of the volume.

    Args:
        volume: image of any orientation.
        box: of its upright array.

    Returns:
        The same voxels in `volume.data`.
    """
    sides = [(box[int(axis)], int(direction)) for axis, direction in io_orientation(volume.affine)]
    x, y, z = (
        side if direction > 0 else slice(n - side.stop, n - side.start)
        for (side, direction), n in zip(sides, volume.shape, strict=True)
    )
    return x, y, z


def upright_spacing(volume: Volume) -> np.ndarray:
    """Returns the voxel size in mm along the axes of the upright array."""
    return np.asarray(volume.spacing_mm)[np.argsort(io_orientation(volume.affine)[:, 0])]


def shown_box(lungs: np.ndarray, spacing_mm: np.ndarray) -> tuple[slice, slice, slice]:
    """Returns what is shown: the voxels of a box with a margin of 15 mm around the lungs.

    Args:
        lungs: true inside, (X, Y, Z).
        spacing_mm: voxel size along the axes of `lungs`.

    Raises:
        ValueError: the mask is empty.
    """
    first, end = np.array([(side.start, side.stop) for side in voxel_box(lungs)]).T
    margin = np.ceil(_MARGIN_MM / np.asarray(spacing_mm)).astype(int)
    low, high = np.maximum(first - margin, 0), np.minimum(end + margin, lungs.shape)
    x, y, z = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return x, y, z


def cut(image: np.ndarray, plane: Plane, index: int) -> np.ndarray:
    """Returns one plane of an upright image, as a figure shows it.

    Args:
        image: axes along right, anterior and superior, (X, Y, Z).
        plane: which plane.
        index: of the voxel along the plane's normal.

    Returns:
        Rows from the bottom up, columns from the left, (up, across).
    """
    return np.take(image, index, axis=plane.normal)[::-1].T  # (across, up) before


def folds(determinant: np.ndarray) -> np.ndarray:
    """Returns the image that is laid over others: opaque red where det <= 0, (..., 4)."""
    image = np.zeros((*determinant.shape, 4))
    image[~(determinant > 0)] = (*FOLD_COLOUR, 1.0)
    return image


def mark_sides(axis: Axes, plane: Plane) -> None:
    """Writes the letters of the patient's sides into a view.

    Args:
        axis: of the view.
        plane: that it shows.
    """
    positions = ((0.02, 0.5), (0.98, 0.5), (0.5, 0.98), (0.5, 0.02))
    sides = (("left", "center"), ("right", "center"), ("center", "top"), ("center", "bottom"))
    for letter, (x, y), (ha, va) in zip(plane.letters, positions, sides, strict=True):
        text = axis.text(x, y, letter, transform=axis.transAxes, ha=ha, va=va, fontsize=10)
        text.set(color="#ffd34d", path_effects=[withStroke(linewidth=2, foreground="black")])

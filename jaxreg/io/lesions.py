"""Marked lesions of one image: a label map, or a list of points."""

import dataclasses
import os
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from scipy import ndimage

from jaxreg.geometry.grid import Grid
from jaxreg.geometry.volume import Volume
from jaxreg.io.images import read_labels
from jaxreg.io.point_lists import ENDINGS, read_points


@dataclasses.dataclass(frozen=True, eq=False)
class MarkedLesion:
    """A lesion as a person or a program marked it.

    Attributes:
        name: of the file's label or point; its number where that has none.
        place_mm: (3,), RAS mm: the point, or the middle of the label.
        ml: volume of the label; None for a point.
        mask: the label, nonzero inside, and its surroundings; None for a point.
    """

    name: str
    place_mm: np.ndarray
    ml: float | None = None
    mask: Volume | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class MarkedLesions:
    """The lesions of one image.

    Attributes:
        lesions: at least one, if they were read.
        labels: true in all of them, on the image's grid; None for points.
    """

    lesions: tuple[MarkedLesion, ...]
    labels: Volume | None = None


def read_lesions(
    path: str | os.PathLike, grid: Grid, *, others: Mapping[str, Grid] = MappingProxyType({})
) -> MarkedLesions:
    """Lesions in a file of points, as `read_points` reads them, or in a label map.

    Each number of a label map is a lesion; where there is one number alone, each of its connected
    parts is.

    Args:
        path: .csv, .fcsv or .mrk.json, or an image.
        grid: of the image that they belong to.
        others: grids of images that they do not belong to, by the images' names.

    Returns:
        The lesions.

    Raises:
        OSError: no such file.
        ValueError: no lesion, points outside of the image, labels on the grid of another image, or
            a damaged file.
    """
    if str(path).lower().endswith(ENDINGS):
        return _of_points(path, grid)
    labels = read_labels(path, grid=grid, others=others)
    return lesions_of_labels(labels, str(path))


def _of_points(path: str | os.PathLike, grid: Grid) -> MarkedLesions:
    found = read_points(path)
    voxels = grid.voxel_from_world(found.points)
    outside = np.any((voxels < -0.5) | (voxels > np.array(grid.shape) - 0.5), axis=1)
    if outside.any():
        raise ValueError(
            f"{path}: expected points within the image, got {np.count_nonzero(outside)} of "
            f"{len(outside)} outside of {grid}. Check RAS or LPS, and that they belong to it."
        )
    names = [
        label or id_ or str(number)
        for number, (label, id_) in enumerate(zip(found.labels, found.ids, strict=True), start=1)
    ]
    return MarkedLesions(tuple(map(MarkedLesion, names, found.points)))


def lesions_of_labels(labels: Volume, name: str) -> MarkedLesions:
    """Lesions of a label map (`read_lesions`).

    Args:
        labels: above 0 in lesions.
        name: of the label map, for messages.

    Returns:
        The lesions.

    Raises:
        ValueError: no lesion.
    """
    data = np.where(labels.data > 0, labels.data, 0)
    numbers = np.unique(data[data > 0])
    if len(numbers) == 0:
        raise ValueError(f"{name}: expected lesions, got no voxel above 0. Mark one at least.")
    if len(numbers) == 1:
        parts = np.zeros(data.shape, np.int32)
        ndimage.label(data > 0, np.ones((3, 3, 3)), output=parts)
        data, numbers = parts, np.arange(1, parts.max() + 1)
    masks = [_cropped(data == number, labels.grid) for number in numbers]
    lesions = tuple(map(_of_mask, map(str, numbers), masks))
    return MarkedLesions(lesions, Volume((data > 0).astype(np.uint8), labels.affine))


def _cropped(inside: np.ndarray, grid: Grid) -> Volume:
    """What is true and one voxel around it, as far as there are some."""
    (box,) = ndimage.find_objects(inside.astype(np.uint8))
    x, y, z = (slice(max(side.start - 1, 0), side.stop + 1) for side in box)
    return Volume(inside[x, y, z].astype(np.uint8), grid.part((x, y, z)).affine)


def _of_mask(name: str, mask: Volume) -> MarkedLesion:
    voxels = np.argwhere(mask.data)
    ml = len(voxels) * abs(np.linalg.det(mask.affine[:3, :3])) / 1e3
    return MarkedLesion(name, mask.world_from_voxel(voxels.mean(axis=0)), float(ml), mask)

"""Which lung is the right one and which the left, decided by their positions.

Arrays have axes along RAS (right, anterior, superior), `spacing_mm` (3,) is their voxel size.
"""

import itertools
from collections.abc import Callable, Iterator

import nibabel.orientations
import numpy as np
from scipy import ndimage

from jaxreg.config import LungConfig
from jaxreg.geometry.lung_grid import voxel_box
from jaxreg.geometry.reduction import block_mean
from jaxreg.geometry.volume import Volume
from jaxreg.lungs.morphology import (
    ball,
    distance_mm,
    labelled,
    largest,
    spread,
)

RIGHT, LEFT = 1, 2
_COARSE = 48  # voxels of a reduced mask along its longest axis, at least


def tell_sides(image: Volume, mask: Volume, *, config: LungConfig = LungConfig()) -> Volume:
    """Right and left of a mask, whatever numbers it has.

    Numbers of masks differ from tool to tool. Here the mask as a whole is parted as a found one is
    (`split_sides`); where nearly all of a number (a lobe) lies on one side, all of it does.

    Args:
        image: chest CT in HU, for the spine.
        mask: lungs or lobes, above 0 inside, on the grid of `image`.
        config: settings.

    Returns:
        1 patient's right, 2 left, 0 elsewhere, uint8, on the grid of `image`.
    """
    names, spacing_mm, back = in_ras(mask)
    box = voxel_box(names > 0)
    longest_mm = max((a.stop - a.start) * mm for a, mm in zip(box, spacing_mm, strict=True))
    step_mm = min(config.spacing_mm, longest_mm / _COARSE)
    factors = np.maximum(1, np.rint(step_mm / spacing_mm)).astype(int)
    sides = _coarse_sides(in_ras(image)[0], names > 0, spacing_mm, factors, config)
    for axis, factor in enumerate(factors):
        sides = np.repeat(sides, factor, axis)
    sides = np.where(names > 0, sides[tuple(slice(n) for n in names.shape)], 0).astype(np.uint8)
    for name in np.unique(names[names > 0]):
        part = names == name
        fraction = np.count_nonzero(sides[part] == RIGHT) / np.count_nonzero(part)
        if max(fraction, 1 - fraction) > config.side_share:
            sides[part] = RIGHT if fraction > 0.5 else LEFT
    return Volume(back(sides), mask.affine)


def _coarse_sides(hu, lungs, spacing_mm, factors, config) -> np.ndarray:
    """Sides of all voxels of the reduced grid, those outside of the mask by the nearest inside."""
    reduced = block_mean(lungs.astype(np.float32), factors) > 0
    coarse = block_mean(np.clip(hu, *config.window_hu), factors)
    coarse_mm = spacing_mm * factors
    box = voxel_box(reduced)
    midline = find_midline(coarse, largest_body(coarse, coarse_mm, config), coarse_mm, config)
    sides = np.zeros(reduced.shape, np.uint8)
    sides[box] = split_sides(reduced[box], midline - box[0].start, coarse_mm, config)
    return sides


def in_ras(volume: Volume) -> tuple[np.ndarray, np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """The array of a volume with axes closest to RAS, its voxel size, and the way back."""
    to_ras = nibabel.orientations.io_orientation(volume.affine)
    ras = nibabel.orientations.axcodes2ornt("RAS")
    from_ras = nibabel.orientations.ornt_transform(ras, to_ras)
    data = nibabel.orientations.apply_orientation(volume.data, to_ras)
    spacing_mm = np.asarray(volume.spacing_mm)[np.argsort(to_ras[:, 0])]

    def back(array):
        return np.ascontiguousarray(nibabel.orientations.apply_orientation(array, from_ras))

    return data, spacing_mm, back


def largest_body(hu: np.ndarray, spacing_mm: np.ndarray, config: LungConfig) -> np.ndarray:
    """The body without table and clothes.

    Args:
        hu: image, (X, Y, Z), axes closest to RAS.
        spacing_mm: voxel size, (3,).
        config: thresholds and radii.

    Returns:
        True inside, (X, Y, Z).
    """
    opening = ball(config.body_opening_mm, spacing_mm)
    return largest(ndimage.binary_opening(hu > config.body_hu, opening))


def find_midline(
    hu: np.ndarray, body: np.ndarray, spacing_mm: np.ndarray, config: LungConfig
) -> float:
    """Position of the midline: of the spine, of the body where no bone is seen, of the image.

    Args:
        hu: image, (X, Y, Z), axes closest to RAS.
        body: true inside, (X, Y, Z).
        spacing_mm: voxel size, (3,).
        config: thresholds.

    Returns:
        Index along x, voxels.
    """
    if not body.any():
        return (len(hu) - 1) / 2
    rows = np.flatnonzero(body.any((0, 2)))
    back = slice(rows[0], rows[0] + max(1, int(config.back_share * len(rows))))
    bone = ((hu > config.bone_hu) & body)[:, back].sum((1, 2)) * np.prod(spacing_mm) / 1e3
    columns = body.sum((1, 2))
    if bone.sum() < config.spine_ml:
        return float(np.average(np.arange(len(columns)), weights=columns))
    smooth = ndimage.gaussian_filter1d(bone, config.spine_mm / spacing_mm[0], mode="constant")
    return float(np.argmax(smooth))


def split_sides(
    lungs: np.ndarray, midline: float, spacing_mm: np.ndarray, config: LungConfig
) -> np.ndarray:
    """Labels right and left of a mask of one or both lungs.

    Lungs that touch are parted by the least erosion that leaves two large pieces on both sides of
    the midline; every voxel then goes with the nearest piece. Without such pieces each component
    lies right or left of the midline.

    Args:
        lungs: true inside, (X, Y, Z), axes along RAS.
        midline: position along x, voxels.
        spacing_mm: voxel size, (3,).
        config: settings.

    Returns:
        1 right, 2 left, 0 outside of the mask, uint8.
    """
    cores = _cores(lungs, spacing_mm, config)
    pieces = next(cores)
    names = np.arange(1, pieces.max() + 1)
    across = _centres(pieces, names)
    for eroded in itertools.chain((pieces,), cores):
        sizes = np.bincount(eroded.ravel())[1:]
        large = 1 + np.flatnonzero(sizes > config.piece_share * sizes.sum())
        at = _centres(eroded, large)
        apart = len(large) > 1 and np.ptp(at) * spacing_mm[0] > config.separation_mm
        if apart and at.min() < midline < at.max():
            pieces, names, across, midline = eroded, large, at, (at.min() + at.max()) / 2
            break
    side_of = np.zeros(pieces.max() + 1, np.uint8)
    side_of[names] = np.where(across >= midline, RIGHT, LEFT)
    sides = side_of[pieces]
    if np.all(sides[lungs]):
        return sides
    return np.where(lungs, spread(sides, spacing_mm), 0).astype(np.uint8)


def _cores(lungs: np.ndarray, spacing_mm: np.ndarray, config: LungConfig) -> Iterator[np.ndarray]:
    """Components of the lungs, then of what is left of them by ever more erosion."""
    yield labelled(lungs)
    depth_mm = distance_mm(np.pad(lungs, 1), spacing_mm)[1:-1, 1:-1, 1:-1]
    for erosion_mm in np.arange(0.0, config.contact_mm, spacing_mm.min())[1:]:
        yield labelled(depth_mm > erosion_mm)


def _centres(components: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Centres along x of the named components, voxels."""
    places = np.arange(len(components), dtype=float)[:, None, None]
    flat = components.ravel()
    sums = np.bincount(flat, np.broadcast_to(places, components.shape).ravel())
    return sums[names] / np.bincount(flat)[names]

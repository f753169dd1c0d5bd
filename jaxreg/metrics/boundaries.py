"""Errors at the surface of the lungs and at their fissures, after the EMPIRE10 challenge.

Points on both sides of a boundary, 2 to 20 mm off it, are marked in both images; nearer ones could
be segmented wrongly. The error is the fraction of marked fixed points whose position in the moving
image is marked as the other side (Murphy et al. 2011, IEEE Trans Med Imaging 30(11), 1901-1920). A
position without a mark is no error. Distances run between voxel centres.
"""

import numpy as np
from scipy import ndimage

from jaxreg.geometry.volume import DisplacementField, Volume, require_same_grid

NEAR_MM, FAR_MM = 2.0, 20.0


def boundary_error(fixed: Volume, moving: Volume, field: DisplacementField) -> float:
    """Fraction of points inside the lungs that are mapped to the outside, or the other way round.

    The mediastinum, where masks end at will, is left out as in the challenge: spheres around the
    centre of mass of both lungs that reach to that of the right and of the left lung. The lungs
    are distinguished by the sagittal plane through their common centre.

    Args:
        fixed: lungs of the fixed image, nonzero inside, on the grid of `field`.
        moving: lungs of the moving image.
        field: fixed to moving, world mm.

    Returns:
        Fraction in [0, 1].

    Raises:
        ValueError: a mask is empty or leaves no points near its surface, or the fixed one is on
            another grid than the field.
    """
    return _mismatch(_lung_sides(fixed), _lung_sides(moving), fixed, moving, field)


def fissure_error(fixed: Volume, moving: Volume, field: DisplacementField) -> float | None:
    """Fraction of points near a fissure that are mapped into another lobe.

    A fissure is where two lobes of one lung touch. The challenge draws fissures by hand and marks
    what lies above and below; here marks are lobes.

    Args:
        fixed: lobes of the fixed image, 0 outside, on the grid of `field`.
        moving: lobes of the moving image.
        field: fixed to moving, world mm.

    Returns:
        Fraction in [0, 1]; None where an image has no fissure, as with one label a lung.

    Raises:
        ValueError: the fixed labels are on another grid than the field.
    """
    marks = _lobe_sides(fixed), _lobe_sides(moving)
    if not all(np.any(mark) for mark in marks):
        return None
    return _mismatch(*marks, fixed, moving, field)


def _mismatch(fixed_marks, moving_marks, fixed, moving, field):
    """Fraction of marked fixed voxels whose nearest moving voxel has another mark."""
    require_same_grid(fixed, field, ("fixed labels", "displacement"))
    voxels = np.argwhere(fixed_marks)
    if len(voxels) == 0:
        raise ValueError(
            f"fixed: expected points {NEAR_MM:g} to {FAR_MM:g} mm off a boundary, got none. "
            "Check that the mask shows lungs."
        )
    marks = fixed_marks[tuple(voxels.T)]
    mapped = field.grid.world_from_voxel(voxels) + field.data[tuple(voxels.T)]
    nearest = np.floor(moving.grid.voxel_from_world(mapped) + 0.5).astype(int)
    inside = np.all((nearest >= 0) & (nearest < moving.shape), axis=1)
    found = np.zeros(len(voxels), marks.dtype)
    found[inside] = moving_marks[tuple(nearest[inside].T)]
    return float(np.mean((found != 0) & (found != marks)))


def _lung_sides(lungs):
    """1 inside of the lungs, -1 outside, 0 where nothing is marked; int8, (X, Y, Z)."""
    inside = lungs.data > 0
    if not inside.any():
        raise ValueError("lungs: expected a mask, got an empty one. Check the file.")
    surface = inside & ~np.asarray(ndimage.binary_erosion(inside), bool)
    marks = np.where(_near(surface, lungs.spacing_mm), np.where(inside, 1, -1), 0)
    points = lungs.grid.world_from_voxel(np.argwhere(inside))
    centre = points.mean(axis=0)
    right = points[:, 0] < centre[0]  # RAS
    reach = max(
        np.linalg.norm(points[side].mean(axis=0) - centre) for side in (right, ~right) if side.any()
    )
    marked = np.argwhere(marks)
    distance = np.linalg.norm(lungs.grid.world_from_voxel(marked) - centre, axis=1)
    marks[tuple(marked[distance <= reach].T)] = 0
    return marks.astype(np.int8)


def _lobe_sides(lobes):
    """Number of the lobe near the fissures, 0 elsewhere; (X, Y, Z)."""
    labels = lobes.data.astype(np.int32)
    touching = np.zeros(labels.shape, bool)
    for lung in _lungs_of(lobes, labels):
        within = np.where(np.isin(labels, lung), labels, 0)
        for axis in range(3):
            first, second = (
                tuple(part if a == axis else slice(None) for a in range(3))
                for part in (slice(None, -1), slice(1, None))
            )
            differ = (within[first] != within[second]) & (within[first] > 0) & (within[second] > 0)
            touching[first] |= differ
            touching[second] |= differ
    if not touching.any():
        return np.zeros_like(labels)
    return np.where(_near(touching, lobes.spacing_mm), labels, 0)


def _lungs_of(lobes, labels):
    """Labels of the right and of the left lung, by the side of the common centre they lie on."""
    values = np.unique(labels[labels > 0])
    if values.size == 0:
        return []
    voxels = np.array(ndimage.center_of_mass(labels > 0, labels, values))
    sides = lobes.grid.world_from_voxel(voxels)[:, 0]
    common = lobes.grid.world_from_voxel(np.array(ndimage.center_of_mass(labels > 0)))[0]
    return [values[sides < common], values[sides >= common]]


def _near(boundary, spacing_mm):
    """Whether the nearest voxel of the boundary is 2 to 20 mm away."""
    reach = [int(np.ceil(FAR_MM / s)) + 1 for s in spacing_mm]
    box = tuple(
        slice(max(0, part.start - n), part.stop + n)
        for part, n in zip(ndimage.find_objects(boundary.astype(np.uint8))[0], reach, strict=True)
    )
    distance = np.asarray(ndimage.distance_transform_edt(~boundary[box], sampling=spacing_mm))
    near = np.zeros(boundary.shape, bool)
    near[box] = (distance > NEAR_MM) & (distance <= FAR_MM)
    return near

"""Errors at lung surface and fissures against explicit loops and in closed form."""

import itertools

import numpy as np
import pytest

from jaxreg.geometry.volume import DisplacementField, Volume
from jaxreg.metrics.boundaries import FAR_MM, NEAR_MM, boundary_error, fissure_error

SHAPE = (17, 14, 12)
AFFINE = np.array(
    [[-4.0, 0, 0, 30], [0, 5.0, 0, -11], [0, 0, 6.0, 7], [0, 0, 0, 1]]
)  # x to the left
MOVING_AFFINE = np.array([[0, 5.5, 0, -36.0], [4.5, 0, 0, -9], [0, 0, 5.0, 5], [0, 0, 0, 1]])
MOVING_SHAPE = (16, 14, 15)


def lungs(shape, affine, *, shift=0.0):
    """Two boxes in world mm, five lobes: three on the patient's right (negative x), two left."""
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    x, y, z = np.moveaxis(grid @ affine[:3, :3].T + affine[:3, 3], -1, 0)
    labels = np.zeros(shape, np.int32)
    inside = (np.abs(y - 20) < 24) & (np.abs(z - 40 - shift) < 24)
    right, left = (x > -30) & (x < -3) & inside, (x > 3) & (x < 28) & inside
    labels[right] = 1
    labels[right & (z < 48 + shift)] = 2
    labels[right & (z < 30 + shift)] = 3
    labels[left] = 4
    labels[left & (z < 38 + shift)] = 5
    return Volume(labels, affine)


def random_field(scale_mm):
    data = np.random.default_rng(3).normal(0, scale_mm, (*SHAPE, 3)).astype(np.float32)
    return DisplacementField(data, AFFINE)


def neighbours(voxel, shape):
    for axis, step in itertools.product(range(3), (-1, 1)):
        other = list(voxel)
        other[axis] += step
        yield tuple(other) if 0 <= other[axis] < shape[axis] else None


def nearest_mm(points, voxel, spacing_mm):
    return np.linalg.norm((np.asarray(points) - voxel) * spacing_mm, axis=1).min()


def lung_marks_loop(volume):
    data, spacing_mm = volume.data, np.array(volume.spacing_mm)
    inside = [tuple(v) for v in np.argwhere(data > 0)]
    surface = [
        v for v in inside if any(n is None or data[n] == 0 for n in neighbours(v, data.shape))
    ]
    world = np.array([volume.world_from_voxel(np.array(v)) for v in inside])
    centre = world.mean(axis=0)
    halves = world[world[:, 0] < centre[0]], world[world[:, 0] >= centre[0]]
    reach = [np.linalg.norm(half.mean(axis=0) - centre) for half in halves]
    marks = {}
    for voxel in np.ndindex(*data.shape):
        distance = np.linalg.norm(volume.world_from_voxel(np.array(voxel)) - centre)
        far = all(distance > r for r in reach)
        if far and NEAR_MM < nearest_mm(surface, voxel, spacing_mm) <= FAR_MM:
            marks[voxel] = 1 if data[voxel] > 0 else -1
    return marks


def lobe_marks_loop(volume):
    data, spacing_mm = volume.data, np.array(volume.spacing_mm)
    lung = {1: 0, 2: 0, 3: 0, 4: 1, 5: 1}
    touching = [
        v
        for v in np.ndindex(*data.shape)
        if data[v] > 0
        and any(
            n and data[n] not in (0, data[v]) and lung[data[n]] == lung[data[v]]
            for n in neighbours(v, data.shape)
        )
    ]
    return {
        v: data[v]
        for v in np.ndindex(*data.shape)
        if data[v] > 0 and NEAR_MM < nearest_mm(touching, v, spacing_mm) <= FAR_MM
    }


def share_loop(fixed_marks, moving_marks, field, moving):
    wrong = 0
    for voxel, mark in fixed_marks.items():
        mapped = field.grid.world_from_voxel(np.array(voxel)) + field.data[voxel]
        place = tuple(np.floor(moving.voxel_from_world(mapped) + 0.5).astype(int))
        wrong += moving_marks.get(place, mark) != mark
    return wrong / len(fixed_marks)


@pytest.mark.parametrize(
    "error, loop", [(boundary_error, lung_marks_loop), (fissure_error, lobe_marks_loop)]
)
def test_errors_are_the_explicit_loop(error, loop):
    fixed, moving = lungs(SHAPE, AFFINE), lungs(MOVING_SHAPE, MOVING_AFFINE, shift=3.0)
    field = random_field(9.0)
    expected = share_loop(loop(fixed), loop(moving), field, moving)
    assert 0.02 < expected < 0.5
    assert error(fixed, moving, field) == pytest.approx(expected)


def test_no_displacement_between_equal_lungs_is_no_error():
    fixed, still = lungs(SHAPE, AFFINE), random_field(0.0)
    assert boundary_error(fixed, fixed, still) == 0.0
    assert fissure_error(fixed, fixed, still) == 0.0


def test_one_label_a_lung_has_no_fissure():
    sides = Volume(np.array([0, 1, 1, 1, 2, 2], np.int32)[lungs(SHAPE, AFFINE).data], AFFINE)
    assert fissure_error(sides, sides, random_field(1.0)) is None
    touching = np.zeros(SHAPE, np.int32)
    touching[3:8, 3:9, 3:9], touching[8:13, 3:9, 3:9] = 2, 1  # two lungs, side by side
    touching = Volume(touching, AFFINE)
    assert fissure_error(touching, touching, random_field(1.0)) is None


def test_what_cannot_be_scored_is_refused():
    fixed = lungs(SHAPE, AFFINE)
    empty = Volume(np.zeros(SHAPE, np.int32), AFFINE)
    with pytest.raises(ValueError, match="lungs: expected a mask, got an empty one"):
        boundary_error(fixed, empty, random_field(1.0))
    with pytest.raises(ValueError, match="fixed labels and displacement: expected one grid"):
        boundary_error(lungs(MOVING_SHAPE, MOVING_AFFINE), fixed, random_field(1.0))

"""Nodules of the phantom: what is told of them is what the images show."""

import numpy as np
import pytest

from jaxreg.phantom.nodules import KINDS, Body, paint_nodules
from jaxreg.phantom.pair import phantom_pair

OPTIONS = {
    "shape": (72, 60, 66),
    "motion": 8.0,
    "fixed_phase": "exhale",
    "moving_shift_mm": (5.0, -8.0, 11.0),
}
COUNT = 10
NAMES = ("fixed_mm", "moving_mm")


@pytest.fixture(scope="module")
def pairs():
    """One subject with nodules and without, the noise being the same."""
    return [phantom_pair(8, **OPTIONS, nodules=n) for n in (COUNT, 0)]


def test_kinds_say_which_scan_shows_more(pairs):
    nodules = pairs[0].nodules
    assert sorted(n.kind for n in nodules) == sorted(KINDS * (COUNT // len(KINDS)))
    for nodule in nodules:
        ratio = nodule.fixed_ml / nodule.moving_ml if nodule.moving_ml else np.inf
        assert {
            "stable": ratio == 1,
            "grown": 1.5 <= ratio <= 4,
            "shrunk": 0.25 <= ratio <= 1 / 1.5,
            "new": ratio == np.inf,
            "vanished": ratio == 0,
        }[nodule.kind]


def test_they_follow_the_lung(pairs):
    nodules = pairs[0].nodules
    fixed, moving = (np.array([getattr(n, name) for n in nodules]) for name in NAMES)
    np.testing.assert_allclose(pairs[0].displacement.transform_points(fixed), moving, atol=0.05)


@pytest.mark.parametrize("scan", ["fixed", "moving"])
def test_volume_and_place_are_those_in_the_image(pairs, scan):
    """What a nodule adds to an image, over its contrast with the lung around it."""
    with_nodules, without = (getattr(pair, scan) for pair in pairs)
    added = with_nodules.data - without.data
    voxel_ml = np.prod(with_nodules.spacing_mm) / 1e3
    world = with_nodules.world_from_voxel(np.moveaxis(np.indices(added.shape), 0, -1))
    for nodule in pairs[0].nodules:
        place, ml = getattr(nodule, f"{scan}_mm"), getattr(nodule, f"{scan}_ml")
        distance = np.linalg.norm(world - place, axis=-1)
        near = distance < 15
        lung = np.median(without.data[near])
        found = added[near].sum() * voxel_ml / (nodule.hu - lung)
        assert found == pytest.approx(ml, abs=0.02 + 0.3 * ml)  # it replaces vessels, too
        if ml:
            centre = np.average(world[near], axis=0, weights=np.maximum(added[near], 0))
            assert np.linalg.norm(centre - place) < 1.0
        added[near] = 0
    assert np.abs(added).max() <= 3  # rounding, and the ends of the blur


def test_each_voxel_has_the_fraction_that_a_nodule_fills():
    axes = (np.arange(-20.0, 20, 1.7), np.arange(-18.0, 18, 2.3), np.arange(-21.0, 21, 1.1))
    body = Body(np.array([2.1, -3.4, 5.2]), np.array([6.0, 4.5, 7.5]), hu=40.0)
    hu = np.full([len(axis) for axis in axes], -860.0, np.float32)
    paint_nodules(hu, [body, Body(body.centre, np.zeros(3), 0.0)], axes)
    fraction = (hu + 860) / 900
    assert fraction.min() == 0 and fraction.max() == pytest.approx(1, abs=1e-6)
    total = fraction.sum() * 1.7 * 2.3 * 1.1 / 1e3
    assert total == pytest.approx(body.ml, rel=0.005)
    assert body.ml == pytest.approx(4 / 3 * np.pi * 6.0 * 4.5 * 7.5 / 1e3)
    world = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    centre = np.average(world, axis=(0, 1, 2), weights=np.repeat(fraction[..., None], 3, -1))
    np.testing.assert_allclose(centre, body.centre, atol=0.05)


def test_a_vessel_in_ground_glass_stays():
    axes = (np.arange(9.0),) * 3
    hu = np.full((9, 9, 9), -860.0, np.float32)
    hu[4, 4] = 40.0
    paint_nodules(hu, [Body(np.full(3, 4.0), np.full(3, 3.0), hu=-500.0)], axes)
    assert hu[4, 4, 4] == 40.0 and hu[3, 4, 4] == -500.0 and hu[0, 0, 0] == -860.0


def test_too_many_are_refused():
    with pytest.raises(ValueError, match="nodules: expected as many as have room in the lungs"):
        phantom_pair(8, shape=(20, 18, 22), nodules=500)

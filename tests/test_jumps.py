import numpy as np
import pytest

from jaxreg.geometry.grid import Grid
from jaxreg.trust.findings import doubt_of_jumps
from jaxreg.trust.jumps import Jumps, jumps_of

SHAPE = (13, 11, 50)


def lungs():
    inside = np.zeros(SHAPE, bool)
    inside[2:-2, 2:-2, 4:-4] = True
    return inside


def field(*columns):
    """A field that depends on the height alone: three functions of it, in voxels."""
    z = np.arange(SHAPE[2], dtype=np.float32)
    return np.broadcast_to(np.stack([f(z) for f in columns], axis=-1), (*SHAPE, 3)).copy()


def zero(z):
    return 0 * z


def test_a_field_of_second_degree_has_no_jump():
    u = field(lambda z: 0.3 * z, lambda z: 0.02 * z**2, lambda z: 2.0 - 0.01 * z**2)
    assert jumps_of(u, lungs(), np.ones(SHAPE)).size.max() < 1e-4


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_step_between_two_planes_is_found_in_full(axis):
    """J is the whole step at four planes, and nothing above or below."""
    columns = [zero, zero, zero]
    columns[axis] = lambda z: 3.0 * (z > 23) - 0.01 * z**2
    jumps = jumps_of(field(*columns), lungs(), np.ones(SHAPE))
    z = np.arange(SHAPE[2])
    beside = np.isin(z, (22, 23, 24, 25))
    np.testing.assert_allclose(jumps.size[beside], 3.0, atol=1e-4)
    np.testing.assert_allclose(jumps.shift[beside, axis], 3.0 - 0.08 * z[beside], atol=1e-4)
    np.testing.assert_array_equal(np.flatnonzero(jumps.near(2.0)), np.arange(18, 30))
    assert not jumps.near(3.1).any()


def test_a_step_in_a_part_of_the_lungs_is_none():
    """Where fewer than half of the voxels of a plane jump, the median does not."""
    u = field(zero, zero, zero)
    u[:5, :, 24:, 2] = 5.0
    assert jumps_of(u, lungs(), np.ones(SHAPE)).size.max() == 0.0


def test_planes_count_where_both_images_show_most_of_the_lungs():
    u = field(zero, zero, lambda z: 3.0 * (z > 30))
    shown = np.ones(SHAPE)
    assert jumps_of(u, lungs(), shown).size.max() == pytest.approx(3.0)
    shown[:, :, 29:] = 0.5
    assert jumps_of(u, lungs(), shown).size.max() == 0.0


def test_an_empty_or_flat_mask_says_nothing():
    u = field(zero, zero, lambda z: 3.0 * (z > 23))
    flat = np.zeros(SHAPE, bool)
    flat[:, :, 22:26] = True
    for mask in (np.zeros(SHAPE, bool), flat):
        assert jumps_of(u, mask, np.ones(SHAPE)).size.max() == 0.0
    low = np.s_[:, :, 20:27]
    assert jumps_of(u[low], lungs()[low], np.ones(SHAPE)[low]).size.max() == 0.0


def test_a_jump_is_told_with_its_place_and_size():
    affine = np.diag([3.0, 3.0, 2.0, 1.0])
    affine[2, 3] = -100.0
    grid = Grid((64, 52, 96), affine)
    jumps = Jumps(np.full((96, 3), np.nan), np.zeros(96))
    assert not list(doubt_of_jumps(jumps, grid))
    jumps.shift[50], jumps.size[50] = (0.0, 3.0, -2.0), 1.5
    (said,) = doubt_of_jumps(jumps, grid)
    assert said.code == "slice-jump"
    assert "at z = 0 mm of the fixed image the field changes by 10 mm within 8 mm" in said.text
    assert "missing, repeated or displaced" in said.text and "Look at both scans" in said.text

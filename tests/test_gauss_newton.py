"""Refinement on pairs whose true displacement is known, and on images without content."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxreg.config import OptimiserConfig
from jaxreg.engine import gauss_newton
from jaxreg.engine.gauss_newton import continue_outside, level_shapes, refine
from jaxreg.ops.certificate import uncertified_cells
from jaxreg.ops.deformation import transform_points

SHAPE = (44, 36, 40)
SPACING = (1.5, 2.0, 1.8)
MASK = np.zeros(SHAPE, bool)
MASK[6:-6, 6:-6, 6:-6] = True


def texture(points, *, seed=0):
    """A smooth random image in HU of structures of some 6 mm, at any points (..., 3) in voxels."""
    noise = np.random.default_rng(seed).normal(size=(60, 60, 60))
    smooth = ndimage.gaussian_filter(noise, 1.5)
    places = np.moveaxis(points, -1, 0) + 8.0
    return -700 + 150 * ndimage.map_coordinates(smooth / smooth.std(), places, order=3)


def grid():
    return np.stack(np.indices(SHAPE), axis=-1).astype(float)


def bend(points):
    """Displacement in voxels at any points: up to 5 mm, with a part that is constant."""
    bump = np.sin(np.pi * points / (np.array(SHAPE) - 1)).prod(axis=-1, keepdims=True)
    return bump * np.array([2.0, -1.5, 3.0]) + np.array([0.5, 0.8, -0.6])


TRUTH = bend(grid())


def pair():
    """Fixed and moving image, moving(x + bend(x)) = fixed(x)."""
    points = grid()
    for _ in range(30):
        points = grid() - bend(points)
    return texture(grid()).astype(np.float32), texture(points).astype(np.float32)


@pytest.fixture(scope="module")
def found():
    fixed, moving = pair()
    return np.asarray(refine(fixed, moving, MASK, spacing_mm=SPACING))


def error_mm(u):
    return np.linalg.norm((u - TRUTH) * SPACING, axis=-1)[MASK]


def test_known_displacement_is_found_to_a_fraction_of_a_voxel(found):
    assert error_mm(np.zeros_like(found)).mean() > 2.5
    assert error_mm(found).mean() < 0.25
    assert np.percentile(error_mm(found), 95) < 0.5
    assert not uncertified_cells(found).any()


def test_brightness_and_contrast_make_little_difference(found):
    fixed, moving = pair()
    other = refine(fixed, 0.9 * moving - 50, MASK, spacing_mm=SPACING)
    assert error_mm(np.asarray(other)).mean() < 1.5 * error_mm(found).mean()


def test_start_close_to_the_solution_is_kept(found):
    fixed, moving = pair()
    again = refine(fixed, moving, MASK, spacing_mm=SPACING, initial=found)
    assert error_mm(np.asarray(again)).mean() < 0.25


def test_identical_images_stay_where_they_are():
    fixed, _ = pair()
    u = refine(fixed, fixed, MASK, spacing_mm=SPACING)
    assert np.abs(u).max() < 0.01


def test_identical_images_undo_a_start_far_from_the_mask_too():
    fixed, _ = pair()
    start = np.broadcast_to(np.array([0.6, -0.5, 0.4], np.float32), (*SHAPE, 3))
    u = refine(fixed, fixed, MASK, spacing_mm=SPACING, initial=start)
    assert np.linalg.norm(np.asarray(u) * SPACING, axis=-1).max() < 0.05


def test_continued_field_keeps_the_mask_and_forgets_folds_outside():
    shape, spacing = (32, 24, 32), (3.0, 2.5, 3.2)
    mask = np.zeros(shape, bool)
    mask[8:-8, 6:-6, 8:-8] = True
    x = np.stack(np.indices(shape), axis=-1)
    linear = 0.1 * x[..., [2, 0, 1]] - 1.0
    noise = np.where(mask[..., None], 0.0, np.random.default_rng(0).normal(0.0, 3.0, (*shape, 3)))
    u = (linear + noise).astype(np.float32)
    assert uncertified_cells(u).any()
    found = np.asarray(continue_outside(u, mask, spacing_mm=spacing))
    assert not uncertified_cells(found).any()
    change = np.abs(found - u)[mask]
    assert change.mean() < 0.01 and change.max() < 0.15  # at the corners of the mask
    assert np.abs(found).max() < 1.1 * np.abs(linear).max() < 0.5 * np.abs(u).max()
    np.testing.assert_array_equal(continue_outside(u, 0 * mask, spacing_mm=spacing), 0.0)


@pytest.mark.parametrize(
    ("fixed", "moving", "mask"),
    [
        (np.full(SHAPE, -1000.0), np.full(SHAPE, -1000.0), MASK),
        (np.full(SHAPE, -3024.0), texture(grid()), MASK),
        (texture(grid()), texture(grid(), seed=1), np.zeros(SHAPE)),
    ],
    ids=["flat", "flat fixed", "empty mask"],
)
def test_no_content_gives_no_displacement(fixed, moving, mask):
    u = refine(fixed.astype(np.float32), moving.astype(np.float32), mask, spacing_mm=SPACING)
    np.testing.assert_allclose(u, 0.0, atol=1e-3)


def test_result_is_the_same_bit_for_bit(found):
    fixed, moving = pair()
    assert np.array_equal(refine(fixed, moving, MASK, spacing_mm=SPACING), found)


# One level only, for compilation's sake.
COARSE = (10.0, 12.0, 11.0)
SMALL = (16, 24, 16)


def test_same_under_jit():
    fixed, moving = (image[tuple(slice(n) for n in SMALL)] for image in pair())
    mask = np.ones(SMALL, bool)

    def run(fixed, moving):
        return refine(fixed, moving, mask, spacing_mm=COARSE)

    plain = run(fixed, moving)
    assert np.abs(plain).max() > 0.1
    np.testing.assert_allclose(jax.jit(run)(fixed, moving), plain, atol=1e-2)


def test_batch_under_vmap_is_one_pair_after_the_other():
    """The pairs need different numbers of steps; spacings may differ within a batch."""
    fixed, moving = (image[tuple(slice(n) for n in SMALL)] for image in pair())
    mask, spacings = np.ones(SMALL, bool), jnp.array([COARSE, (11.0, 12.0, 9.0)])

    def run(moving, spacing_mm):
        return refine(fixed, moving, mask, spacing_mm=spacing_mm)

    batch = jax.jit(jax.vmap(run))(jnp.stack([moving, fixed]), spacings)
    assert float(jnp.abs(batch[1]).max()) < 0.01 < 0.1 < float(jnp.abs(batch[0]).max())
    for u, image, spacing_mm in zip(batch, (moving, fixed), spacings, strict=True):
        np.testing.assert_allclose(u, jax.jit(run)(image, spacing_mm), atol=1e-2)


@pytest.mark.parametrize(
    ("shape", "levels"),
    [
        ((192, 160, 192), [(24, 24, 24), (48, 40, 48), (96, 80, 96), (192, 160, 192)]),
        ((50, 33, 64), [(32, 24, 32), (56, 40, 64)]),
        ((20, 9, 30), [(24, 16, 32)]),
    ],
)
def test_levels_halve_the_shape_and_are_multiples_of_8(shape, levels):
    assert level_shapes(shape, coarsest=16) == levels


def test_keypoints_pull_where_the_images_say_nothing():
    """In flat images the points alone make the field; it passes through them nearly."""
    flat = np.full(SMALL, -800.0, np.float32)
    points = np.array([[4.5, 5, 3], [11, 17, 4.5], [4, 18, 12], [12, 6, 11]], np.float32)
    shifts = np.array([[0.5, 0, 1], [0.5, 0.5, 1], [0.5, 0, 0.5], [0.5, -0.5, 1]], np.float32)
    u = refine(flat, flat, np.ones(SMALL), spacing_mm=COARSE, keypoints=(points, points + shifts))
    np.testing.assert_allclose(transform_points(u, points), points + shifts, atol=0.2)


def test_grids_that_differ_are_refused():
    image = np.zeros(SHAPE, np.float32)
    unchecked = inspect.unwrap(refine)  # jaxtyping would speak first here, but not at a user's
    with pytest.raises(ValueError, match=r"must share a grid: got shapes \(44, 36, 40\), \(43"):
        unchecked(image, image[:-1], MASK, spacing_mm=SPACING)


def test_steps_that_shrink_steadily_are_taken_at_once():
    rng = np.random.default_rng(3)
    last = rng.normal(size=(3, 5, 4, 6)).astype(np.float32)
    weight = rng.uniform(size=(5, 4, 6)).astype(np.float32)
    config = OptimiserConfig(largest_ratio=0.6)
    for ratio, factor in ((0.0, 1.0), (0.5, 2.0), (0.9, 2.5), (-0.4, 1.0)):
        found = gauss_newton._extrapolation(ratio * last, last, weight, config)
        assert found == pytest.approx(factor, rel=1e-5)
    first = gauss_newton._extrapolation(last, np.zeros_like(last), weight, config)
    assert first == 1.0


def test_extrapolation_changes_the_way_and_not_the_end(found):
    config = OptimiserConfig(largest_ratio=0.0, smallest_step=1e-4, most_steps=40)
    fixed, moving = pair()
    slow = np.asarray(refine(fixed, moving, MASK, spacing_mm=SPACING, config=config))
    assert np.abs(slow - found)[MASK].mean() < 0.005


def wavy_pair(noise_hu):
    """A pair with waves of about 25 mm that moves by 2 mm, each image with its own noise."""
    phases = 2 * np.pi * grid() * SPACING / 25.0
    truth = 0.7 * np.stack([np.sin(phases[..., axis]) for axis in (1, 2, 0)], axis=-1)
    rng = np.random.default_rng(8)
    moving = texture(grid())
    fixed = texture(grid() + truth)
    noisy = [image + rng.normal(size=SHAPE) * noise_hu for image in (fixed, moving)]
    return [image.astype(np.float32) for image in noisy], truth


@pytest.mark.parametrize("noise_hu", [0.0, 20.0])
def test_a_field_of_short_waves_is_found_better_than_with_one_weight_for_all(noise_hu):
    (fixed, moving), truth = wavy_pair(noise_hu)
    errors = []
    for balance in (OptimiserConfig().balance, 0.0):
        config = OptimiserConfig(balance=balance)
        u = np.asarray(refine(fixed, moving, MASK, spacing_mm=SPACING, config=config))
        errors.append(np.linalg.norm((u - truth) * SPACING, axis=-1)[MASK].mean())
    assert errors[0] < 0.9 * errors[1], errors

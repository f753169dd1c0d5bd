import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from training_pairs import GRID, write_anatomies

from jaxreg.config import Config, NetworkConfig, SyntheticConfig, TrainingConfig
from jaxreg.ops.interpolation import sample, sample_nearest
from jaxreg.training.anatomies import LOBES, load_anatomies
from jaxreg.training.respiratory_motion import draw_motion
from jaxreg.training.sources import stream_source
from jaxreg.training.synthetic import draw, level_shape

pytestmark = pytest.mark.usefixtures("quick_compilation")

SYNTHETIC = SyntheticConfig()
PLAIN = dataclasses.replace(SYNTHETIC, sliding=0.0, binning=0.0, cut=0.0)
CONFIG = Config(
    network=NetworkConfig(grid=GRID, levels=3, widths=(4, 8), convs=1),
    training=TrainingConfig(steps=(4, 4, 4), batch=(1, 2, 2), subjects=2),
)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return write_anatomies(tmp_path_factory.mktemp("anatomies"), range(2))


@pytest.fixture(scope="module")
def drawn(paths):
    """Eight pairs at level 1."""
    return [make(seed, paths, level=1) for seed in range(8)]


def make(seed, paths, *, level, config=SYNTHETIC):
    """A pair of the tiny anatomies."""
    anatomies = load_anatomies(paths, level=level)
    return draw(jax.random.key(seed), anatomies, grid=GRID, level=level, config=config)


def motion_mm(example):
    motion = np.asarray(example.fixed_keypoints) - np.asarray(example.moving_keypoints)
    return motion * np.asarray(example.spacing_mm)


def identical(example):
    return np.array_equal(example.fixed, example.moving)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_shapes_and_values(paths, level):
    example = make(3, paths, level=level)
    shape = tuple(n // 2 ** (level - 1) for n in GRID)
    assert level_shape(GRID, level) == shape == example.fixed.shape == example.moving.shape
    assert example.fixed_labels.shape == (*shape, LOBES)
    assert all(a.dtype == jnp.float32 and np.isfinite(a).all() for a in example)
    np.testing.assert_array_equal(example.fixed_labels.sum(axis=-1), example.mask)
    assert float(example.keypoint_weights.mean()) > 0.5
    inside = sample(example.moving_labels.sum(axis=-1), example.moving_keypoints)
    assert float(inside.min()) == 1.0


def test_the_truth_aligns_the_images(drawn):
    """Along the true motion the lungs look alike, more than where they lie."""
    differences = []
    for example in drawn:
        kept = np.asarray(example.keypoint_weights) > 0
        fixed = np.asarray(sample(example.fixed, example.fixed_keypoints))[kept]
        for points in (example.moving_keypoints, example.fixed_keypoints):
            moving = np.asarray(sample(example.moving, points))[kept]
            differences.append(np.abs(fixed - moving - np.median(fixed - moving)).mean())
    true, unmoved = np.array(differences).reshape(-1, 2).T
    assert np.mean(true) < 0.8 * np.mean(unmoved)
    assert np.mean(true < unmoved) > 0.7


def test_the_motion_is_of_millimetres(drawn):
    lengths = []
    for example in drawn:
        motion = motion_mm(example)
        lengths.append(np.linalg.norm(motion, axis=1).mean())
    assert 0.5 < np.median(lengths) < 8.0  # prealignment has taken its share


def test_the_same_anatomy_and_motion_come_at_every_level(paths):
    points = []
    for level in (1, 2):
        points.append(motion_mm(make(5, paths, level=level)).mean(axis=0))
    assert np.linalg.norm(points[0] - points[1]) < 0.3 + 0.1 * np.linalg.norm(points[0])


def test_some_pairs_are_an_image_and_itself(paths):
    example = make(0, paths, level=3, config=dataclasses.replace(SYNTHETIC, identical=1.0))
    assert identical(example)
    np.testing.assert_array_equal(example.fixed_keypoints, example.moving_keypoints)


def draw_alone(seed, config):
    """Motion on the grid of level 1 in a box of lungs, mm, (N, 3), and where, (N, 3)."""
    lungs = jnp.zeros((8, 8, 8), bool).at[1:7, 2:6, 1:7].set(True)
    spacing = jnp.array([9.0, 8.0, 10.0])
    motion = draw_motion(
        jax.random.key(seed), lungs, spacing, GRID, grid=GRID, level=1, config=config
    )
    inner = (slice(8, 24), slice(10, 22), slice(8, 24))
    assert 0.15 < np.asarray(motion.volume)[inner].min() <= np.asarray(motion.volume).max() < 5.0
    places = np.stack(np.indices(GRID), axis=-1) * np.asarray(spacing)
    return (np.asarray(motion.v) * np.asarray(spacing))[inner].reshape(-1, 3), places[
        inner
    ].reshape(-1, 3)


def left_by(degree, motion, places):
    """Root mean square of what no polynomial of that degree explains."""
    relative = (places - places.mean(axis=0)) / np.ptp(places, axis=0)
    powers = [p for p in np.ndindex(4, 4, 4) if sum(p) <= degree]
    columns = np.stack([np.prod(relative**p, axis=1) for p in powers], axis=1)
    rest = motion - columns @ np.linalg.lstsq(columns, motion, rcond=None)[0]
    return np.sqrt((rest**2).sum(axis=1).mean())


@pytest.mark.parametrize("seed", range(3))
def test_motion_has_the_size_and_smoothness_asked_for(seed):
    free = dataclasses.replace(SYNTHETIC, residual_mm=(3.0, 3.0), steepest=1.0)
    explained = []
    for smooth in (0.3, 0.9):
        motion, places = draw_alone(seed, dataclasses.replace(free, smooth=(smooth, smooth)))
        residual = left_by(1, motion, places)
        assert 1.5 < residual < 4.5  # in a part of the lungs' box
        explained.append(1.0 - (left_by(3, motion, places) / residual) ** 2)
    assert explained[0] < explained[1] and explained[1] > 0.6


def test_the_affine_part_is_that_of_the_settings():
    exact = dataclasses.replace(SYNTHETIC, linear=0.0, shift_mm=0.0, residual_mm=(1.0, 1.0))
    motion, places = draw_alone(0, exact)
    assert np.linalg.norm(motion.mean(axis=0)) < 1.0
    moved, _ = draw_alone(0, dataclasses.replace(exact, shift_mm=50.0))
    assert np.linalg.norm((moved - motion).mean(axis=0)) > 5.0
    assert np.ptp(moved - motion, axis=0).max() < 1e-2


def test_steep_motion_is_made_smaller():
    steep = dataclasses.replace(SYNTHETIC, residual_mm=(60.0, 60.0), smooth=(0.0, 0.0))
    sizes = [
        left_by(1, *draw_alone(1, dataclasses.replace(steep, steepest=most))) for most in (0.2, 0.8)
    ]
    np.testing.assert_allclose(sizes[1] / sizes[0], 4.0, rtol=0.05)


def with_and_without(seed, paths, **certain):
    """A pair without sliding, slab of another phase and cut, and the same with one of them."""
    configs = (PLAIN, dataclasses.replace(PLAIN, **certain))
    return [make(seed, paths, level=1, config=config) for config in configs]


def test_lungs_slide_along_the_wall(paths):
    """The ground truth and the lungs stay; what is outside of them differs."""
    plain, sliding = with_and_without(4, paths, sliding=1.0)
    np.testing.assert_array_equal(plain.fixed, sliding.fixed)
    np.testing.assert_array_equal(plain.fixed_keypoints, sliding.fixed_keypoints)
    lungs = np.asarray(plain.moving_labels).sum(axis=-1) > 0
    deep = scipy.ndimage.binary_erosion(lungs, iterations=2)
    change = np.abs(np.asarray(plain.moving - sliding.moving))
    assert change[deep].max() < 1e-2 < change[~lungs].max()


def test_points_that_an_image_does_not_show_have_no_weight(paths):
    whole, cut = with_and_without(6, paths, cut=1.0)
    assert float(cut.keypoint_weights.sum()) < 0.9 * float(whole.keypoint_weights.sum())
    kept = np.asarray(cut.keypoint_weights) > 0
    assert kept.any()
    np.testing.assert_array_equal(cut.moving_keypoints, whole.moving_keypoints)
    for name in ("fixed", "moving"):
        points = getattr(cut, f"{name}_keypoints")
        shown, hidden = (np.asarray(sample_nearest(getattr(e, name), points)) for e in (whole, cut))
        assert (shown[~kept] != hidden[~kept]).any()
        np.testing.assert_array_equal(shown[kept], hidden[kept])


def test_a_slab_of_another_phase_changes_only_the_moving_image(paths):
    plain, binned = with_and_without(5, paths, binning=1.0)
    np.testing.assert_array_equal(plain.fixed, binned.fixed)
    changed = np.abs(np.asarray(plain.moving - binned.moving)).max(axis=(0, 1)) > 1.0
    slices = np.flatnonzero(changed)
    assert 1 <= len(slices) <= 6 and np.ptp(slices) == len(slices) - 1
    for pair, in_slab in ((plain, True), (binned, False)):
        kept = np.asarray(pair.keypoint_weights) > 0
        layers = np.asarray(pair.moving_keypoints)[kept][:, 2]
        inner = slices[1:-1]  # the kernel of the scanner reaches a slice beyond the slab
        assert np.isin(layers, inner).any() == in_slab
        assert not np.isin(layers, slices).all()


def test_batches_depend_on_their_number_alone(paths):
    source = stream_source(CONFIG, paths)
    straight = source.batches(3)
    batches = [next(straight) for _ in range(4)]
    assert batches[0].fixed.shape == (2, *level_shape(GRID, 3))
    assert not np.array_equal(batches[0].fixed, batches[1].fixed)
    assert straight.get_state() == {"next": 4}
    resumed = source.batches(3)
    resumed.set_state({"next": 2})
    for expected in batches[2:]:
        assert all(np.array_equal(a, b) for a, b in zip(next(resumed), expected, strict=True))


def test_pairs_held_out_are_the_same_at_every_time_and_for_every_training(paths):
    source = stream_source(CONFIG, paths[:1], held_out=paths[1:])
    other = dataclasses.replace(CONFIG.training, seed=5)
    again = stream_source(dataclasses.replace(CONFIG, training=other), [], held_out=paths[1:])
    (first,), (second,) = source.held_out(3), again.held_out(3)
    assert first.fixed.shape == level_shape(GRID, 3)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert stream_source(CONFIG, paths).held_out is None

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_pairs import GRID, write_stills

from jaxreg.config import Config, NetworkConfig, TrainingConfig
from jaxreg.ops.interpolation import sample
from jaxreg.training import respiratory_motion as breathing
from jaxreg.training import synthetic as stream
from jaxreg.training.anatomies import LOBES, load_bank
from jaxreg.training.sources import stream_source
from jaxreg.training.synthetic import draw, level_shape

CONFIG = Config(
    network=NetworkConfig(grid=GRID, levels=3, widths=(4, 8), convs=1),
    training=TrainingConfig(steps=(4, 4, 4), batch=(1, 2, 2), subjects=2),
)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return write_stills(tmp_path_factory.mktemp("stills"), range(2))


@pytest.fixture(scope="module")
def drawn(paths):
    """Eight pairs at level 1."""
    bank = load_bank(paths, level=1)
    return [draw(jax.random.key(seed), bank, grid=GRID, level=1) for seed in range(8)]


def motion_mm(example):
    motion = np.asarray(example.fixed_keypoints) - np.asarray(example.moving_keypoints)
    return motion * np.asarray(example.spacing_mm)


def identical(example):
    return np.array_equal(example.fixed, example.moving)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_shapes_and_values(paths, level):
    example = draw(jax.random.key(3), load_bank(paths, level=level), grid=GRID, level=level)
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


def test_the_motion_is_of_a_breath(drawn):
    lengths = []
    for example in drawn:
        motion = motion_mm(example)
        lengths.append(np.linalg.norm(motion, axis=1).mean())
    assert 0.5 < np.median(lengths) < 8.0  # prealignment has taken its share


def test_the_same_anatomy_and_breath_come_at_every_level(paths):
    points = []
    for level in (1, 2):
        bank = load_bank(paths, level=level)
        example = draw(jax.random.key(5), bank, grid=GRID, level=level)
        points.append(motion_mm(example).mean(axis=0))
    assert np.linalg.norm(points[0] - points[1]) < 0.3 + 0.1 * np.linalg.norm(points[0])


def test_some_pairs_are_an_image_and_itself(paths, monkeypatch):
    monkeypatch.setattr(stream, "IDENTICAL", 1.0)
    jax.clear_caches()  # the constant is compiled in
    example = draw(jax.random.key(0), load_bank(paths, level=3), grid=GRID, level=3)
    jax.clear_caches()
    assert identical(example)
    np.testing.assert_array_equal(example.fixed_keypoints, example.moving_keypoints)


def test_motion_does_not_fold_in_the_lungs_and_has_no_affine_part():
    lungs = jnp.zeros((8, 8, 8), bool).at[1:7, 2:6, 1:7].set(True)
    spacing = jnp.array([9.0, 8.0, 10.0])
    inside = jax.image.resize(lungs.astype(jnp.float32), (16, 16, 16), "linear")
    step = functools.partial(breathing.draw_breath, grid=GRID, level=1)
    for seed in range(4):
        breath = step(jax.random.key(seed), lungs, spacing, GRID)
        volume = np.asarray(breath.volume)[8:24, 10:22, 8:24]
        assert volume.min() > 0.1 and volume.max() < 5.0
        v = np.asarray(breath.v)[1::2, 1::2, 1::2] * np.asarray(spacing)
        x = np.stack(np.indices((16, 16, 16)), axis=-1) - 7.5
        rows = np.concatenate([x, np.ones((16, 16, 16, 1))], axis=-1).reshape(-1, 4)
        weight = np.asarray(inside).reshape(-1, 1)
        fit = np.linalg.lstsq(weight * rows, weight * v.reshape(-1, 3), rcond=None)[0]
        assert np.abs(fit[:3] / 18.0).max() < 6 * breathing.REST_LINEAR
        assert np.abs(fit[3]).max() < 6 * breathing.REST_MM


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

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.config import AugmentationConfig
from jaxreg.training.augmentation import MIRRORED, augment
from jaxreg.training.losses import Example

pytestmark = pytest.mark.usefixtures("quick_compilation")

SHAPE = (30, 18, 20)


def blob(centre, shape=SHAPE):
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    return np.exp(-((grid - centre) ** 2).sum(axis=-1) / 8.0).astype(np.float32)


def blob_example():
    """Two blobs a lung apart; the keypoints are their centres."""
    fixed = np.array([[7.0, 8.0, 9.0], [21.0, 9.0, 11.0]], np.float32)
    moving = fixed + np.array([[0.5, 1.0, -1.5], [-0.5, 0.5, -1.0]], np.float32)
    images = [sum(1000 * blob(c) for c in centres) - 1000 for centres in (fixed, moving)]
    fractions = [np.stack([blob(c[0]), blob(c[1])], axis=-1) for c in (fixed, moving)]
    return Example(
        fixed=images[0],
        moving=images[1],
        mask=fractions[0].sum(axis=-1),
        fixed_labels=fractions[0],
        moving_labels=fractions[1],
        fixed_keypoints=fixed,
        moving_keypoints=moving,
        keypoint_weights=np.ones(2, np.float32),
        spacing_mm=np.array([2.0, 3.0, 2.5], np.float32),
    )


def centre_of(image, near):
    weight = np.maximum(np.asarray(image) + 1000.0, 0.0) * (blob(np.asarray(near)) > 0.1)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"), axis=-1)
    return (grid * weight[..., None]).sum(axis=(0, 1, 2)) / weight.sum()


@pytest.mark.parametrize("deformation", [0.0, 0.015])
def test_keypoints_follow_the_images_and_labels(deformation):
    config = AugmentationConfig(deformation=deformation, noise_hu=0.0, offset_hu=0.0)
    compiled = jax.jit(functools.partial(augment, config=config))
    errors = []
    for seed in range(8):
        example = compiled(jax.random.key(seed), blob_example())
        for image, labels, points in (
            (example.fixed, example.fixed_labels, example.fixed_keypoints),
            (example.moving, example.moving_labels, example.moving_keypoints),
        ):
            for point in np.asarray(points):
                errors.append(np.abs(centre_of(image, point) - point).max())
                assert labels[tuple(np.round(point).astype(int))].max() > 0.6
    # the centre of mass of a stretched blob is not quite where its middle went
    assert max(errors) < 0.6 and np.mean(errors) < 0.15


def test_mirroring_happens_and_swaps_the_sides():
    seen = set()
    for seed in range(12):
        example = jax.jit(augment)(jax.random.key(seed), blob_example())
        first, second = np.asarray(example.fixed_keypoints)
        fraction = np.asarray(example.fixed_labels)[tuple(np.round(first).astype(int))]
        flipped = bool(first[0] > second[0])  # the first blob, on the left, came to the right
        seen.add(flipped)
        assert fraction.argmax() == (1 if flipped else 0)
    assert seen == {True, False}


@pytest.mark.parametrize("names", MIRRORED.values())
def test_mirroring_twice_is_nothing(names):
    assert [names[names[label - 1] - 1] for label in range(1, len(names) + 1)] == sorted(names)


def test_same_key_same_pair_and_other_key_another():
    one, again, other = (jax.jit(augment)(jax.random.key(k), blob_example()) for k in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    assert not np.array_equal(one.fixed, other.fixed)


def test_shapes_and_types_are_kept_under_vmap():
    batch = jax.tree.map(lambda a: jnp.stack([a, a]), blob_example())
    keys = jax.random.split(jax.random.key(0), 2)
    out = jax.jit(jax.vmap(augment))(keys, batch)
    for before, after in zip(batch, out, strict=True):
        assert before.shape == after.shape and before.dtype == after.dtype
    assert not np.array_equal(out.fixed[0], out.fixed[1])


def test_noise_averages_out_in_larger_voxels():
    def spread(spacing_mm):
        flat = blob_example()._replace(
            fixed=np.zeros(SHAPE, np.float32), spacing_mm=np.float32(spacing_mm)
        )
        return float(np.std(jax.jit(augment)(jax.random.key(3), flat).fixed))

    small, large = spread([3.0, 3.0, 3.0]), spread([12.0, 6.0, 24.0])
    assert 1.0 < small <= 42.0
    assert large == pytest.approx(small / 8.0, rel=0.02)

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.learning import augmentation
from jaxreg.learning.augmentation import MIRRORED, Pair, augment

SHAPE = (22, 18, 20)


def blob(centre, shape=SHAPE):
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    return np.exp(-((grid - centre) ** 2).sum(axis=-1) / 8.0).astype(np.float32)


def blob_pair():
    """Two blobs a lung apart; the keypoints are their centres."""
    fixed = np.array([[7.0, 8.0, 9.0], [14.0, 9.0, 11.0]], np.float32)
    moving = fixed + np.array([[0.5, 1.0, -1.5], [-0.5, 0.5, -1.0]], np.float32)
    images = [sum(1000 * blob(c) for c in centres) - 1000 for centres in (fixed, moving)]
    labels = [
        ((blob(c[0]) > 0.3) + 2 * (blob(c[1]) > 0.3)).astype(np.uint8) for c in (fixed, moving)
    ]
    weights, spacing = np.ones(2, np.float32), np.array([2.0, 3.0, 2.5], np.float32)
    return Pair(*images, *labels, fixed, moving, weights, spacing)


def centre_of(image, near):
    weight = np.maximum(np.asarray(image) + 1000.0, 0.0) * (blob(np.asarray(near)) > 0.1)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"), axis=-1)
    return (grid * weight[..., None]).sum(axis=(0, 1, 2)) / weight.sum()


@pytest.mark.parametrize("seed", range(6))
def test_keypoints_follow_the_images_and_labels(seed, monkeypatch):
    monkeypatch.setattr(augmentation, "NOISE_HU", 0.0)
    monkeypatch.setattr(augmentation, "OFFSET_HU", 0.0)
    pair = augment(jax.random.key(seed), blob_pair(), labels=2)
    for image, labels, points in (
        (pair.fixed, pair.fixed_labels, pair.fixed_keypoints),
        (pair.moving, pair.moving_labels, pair.moving_keypoints),
    ):
        for point in np.asarray(points):
            assert np.abs(centre_of(image, point) - point).max() < 0.35
            assert labels[tuple(np.round(point).astype(int))] > 0


def test_mirroring_happens_and_swaps_the_sides():
    seen = set()
    for seed in range(12):
        pair = augment(jax.random.key(seed), blob_pair(), labels=2)
        first, second = np.asarray(pair.fixed_keypoints)
        labels = np.asarray(pair.fixed_labels)
        flipped = bool(first[0] > second[0])  # the first blob, on the left, came to the right
        seen.add(flipped)
        assert labels[tuple(np.round(first).astype(int))] == (2 if flipped else 1)
    assert seen == {True, False}


@pytest.mark.parametrize("names", MIRRORED.values())
def test_mirroring_twice_is_nothing(names):
    assert [names[names[label]] for label in range(len(names))] == list(range(len(names)))


def test_same_key_same_pair_and_other_key_another():
    one, again, other = (augment(jax.random.key(k), blob_pair(), labels=2) for k in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    assert not np.array_equal(one.fixed, other.fixed)


def test_shapes_and_types_are_kept_under_vmap():
    batch = jax.tree.map(lambda a: jnp.stack([a, a]), blob_pair())
    keys = jax.random.split(jax.random.key(0), 2)
    out = jax.jit(jax.vmap(lambda k, p: augment(k, p, labels=2)))(keys, batch)
    for before, after in zip(batch, out, strict=True):
        assert before.shape == after.shape and before.dtype == after.dtype
    assert not np.array_equal(out.fixed[0], out.fixed[1])

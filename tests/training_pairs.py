"""Tiny training pairs for tests: blobs that moved, on the grid of `jaxreg.configs.smoke`."""

import json

import numpy as np
import scipy.ndimage

from jaxreg.training.anatomies import Anatomy, anatomy_shape
from jaxreg.training.pairs import KEYPOINTS, Pair
from jaxreg.training.prepared import prepare_files

GRID = (32, 32, 32)


def blob_pair(seed):
    """Smooth noise and its shift by about two voxels; two lungs; keypoints everywhere."""
    rng = np.random.default_rng(seed)
    texture = scipy.ndimage.gaussian_filter(rng.normal(size=GRID), 2.0, mode="wrap")
    fixed = (400.0 * texture / texture.std() - 600.0).astype(np.float32)
    shift = rng.uniform(1.0, 3.0, 3)
    moving = scipy.ndimage.shift(fixed, shift, order=1, mode="grid-wrap").astype(np.float32)
    labels = np.zeros(GRID, np.uint8)
    labels[4:14, 6:26, 5:27], labels[18:28, 6:26, 5:27] = 1, 2
    points = rng.uniform(6, 25, (KEYPOINTS, 3)).astype(np.float32)
    moved_labels = scipy.ndimage.shift(labels, shift, order=0)
    weights, spacing = np.ones(KEYPOINTS, np.float32), np.array([8.0, 7.0, 9.0], np.float32)
    return Pair(
        *(fixed, moving, labels, moved_labels, points, points + shift.astype(np.float32)),
        *(weights, spacing),
    )


def blob_anatomies(seed):
    """Two anatomies of smooth noise with five lobes of one box each, as a file holds them."""
    shape = anatomy_shape(GRID)
    rng = np.random.default_rng(seed)
    texture = scipy.ndimage.gaussian_filter(rng.normal(size=(2, *shape)), [0, 2, 2, 2])
    labels = np.zeros((2, *shape), np.uint8)
    for name, x, z in ((3, 6, 6), (2, 6, 16), (1, 6, 26), (5, 24, 6), (4, 24, 20)):
        labels[:, x : x + 13, 8:34, z : z + 12] = name
    hu = np.where(labels > 0, 400.0 * texture / texture.std() - 600.0, 40.0)
    inside = np.argwhere(labels[0] > 0)
    box = np.stack([inside.min(axis=0), inside.max(axis=0)]).astype(np.float32)
    spacing = np.array([6.0, 5.0, 6.5], np.float32)
    return Anatomy(hu.astype(np.float16), labels, np.stack([box] * 2), np.stack([spacing] * 2))


def write_anatomies(folder, seeds):
    """Writes anatomies as a training would, and returns their paths."""
    makers = [(f"phantom_{seed}", lambda s=seed: blob_anatomies(s)) for seed in seeds]
    return prepare_files(folder, makers, GRID)


def write_pairs(folder, seeds, name="phantom"):
    """Writes prepared pairs as a training would, and returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "grid.json").write_text(json.dumps(GRID), encoding="utf-8")
    paths = []
    for seed in seeds:
        paths.append(folder / f"{name}_{seed}.npz")
        np.savez_compressed(paths[-1], **blob_pair(seed)._asdict())
    return paths

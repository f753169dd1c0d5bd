"""Anatomies, from which `jaxreg.training.synthetic` makes training pairs.

An anatomy is one CT around the lungs with its lobes. Anatomies are prepared once, two a file: both
states of a generated subject, or both images of a pair of a manifest. `load_anatomies` lays all of
them side by side for the device.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg.datasets.manifest import read_manifest
from jaxreg.geometry.grid import Grid
from jaxreg.geometry.lung_grid import AIR_HU, image_on_grid, labels_on_grid, lung_box
from jaxreg.geometry.volume import Volume, check_ct
from jaxreg.lungs.segmentation import lung_mask
from jaxreg.ops.filters import binomial
from jaxreg.ops.pyramid import halve
from jaxreg.ops.types import Shape
from jaxreg.phantom.pair import phantom_states
from jaxreg.training.prepared import entry_name, prepare_files

FINENESS = 4.0 / 3.0  # voxels of an anatomy along an axis to one of the network grid
MARGIN_MM = 36.0  # of an anatomy around the lungs of a real image
LOBES = 5
# Of an image whose labels are 1 right and 2 left lung: labels that change in a mirror.
LUNGS_AS_LOBES = {1: 3, 2: 5}


class Anatomy(NamedTuple):
    """One anatomy, or several with a leading axis.

    Attributes:
        hu: CT, (X, Y, Z); for coarse levels on every second, fourth, ... part of that grid.
        labels: 0 background, 1..5 the lobes RU RM RL LU LL; where only lungs are known, the right
            one has label 3 and the left one 5. (X, Y, Z).
        box: lowest and highest voxel of the lungs, (2, 3).
        spacing_mm: millimetres a voxel, (3,).
    """

    hu: jax.Array | np.ndarray
    labels: jax.Array | np.ndarray
    box: jax.Array | np.ndarray
    spacing_mm: jax.Array | np.ndarray


def anatomy_shape(grid: Shape) -> Shape:
    """Voxels of an anatomy for a network grid."""
    return tuple(round(FINENESS * n) for n in grid)


def prepare_phantom_anatomies(folder: Path, seeds: Sequence[int], *, grid: Shape) -> list[Path]:
    """Files of the anatomies of generated subjects; those that exist already are kept.

    Args:
        folder: where to.
        seeds: of the subjects.
        grid: network grid.

    Returns:
        One file a subject, in order.

    Raises:
        ValueError: the folder was made for another grid.
    """
    shape = anatomy_shape(grid)

    def make(seed):
        return _stack([_anatomy(*images) for images in phantom_states(seed, shape=shape)])

    makers = [(f"phantom_{seed}", functools.partial(make, seed)) for seed in seeds]
    return prepare_files(folder, makers, grid)


def prepare_manifest_anatomies(folder: Path, manifest: Path, *, grid: Shape) -> list[Path]:
    """Files of the anatomies of the images that a manifest lists; those that exist are kept.

    Labels are those of the manifest, its masks, or lungs found automatically. Points are not used:
    an anatomy is given new motion.

    Args:
        folder: where to.
        manifest: JSON file that lists pairs.
        grid: network grid.

    Returns:
        One file a pair, in order.

    Raises:
        ValueError: the manifest is not right, and the text lists all that is wrong; or the folder
            was made for another grid.
    """

    def make(entry):
        pair = entry.load()
        images = (
            (pair.fixed, pair.fixed_labels or pair.fixed_mask, "fixed"),
            (pair.moving, pair.moving_labels or pair.moving_mask, "moving"),
        )
        return _stack([_real_anatomy(*image, anatomy_shape(grid)) for image in images])

    entries = read_manifest(manifest)
    makers = [(entry_name(entry), functools.partial(make, entry)) for entry in entries]
    return prepare_files(folder, makers, grid)


def load_anatomies(paths: Sequence[Path], *, level: int) -> Anatomy:
    """All anatomies of the files for a level, on the device.

    Level 1 sees the anatomies as they are. For level l the images (not the labels) are brought down
    l - 2 times and smoothed once more, so that sampling them at the voxels of the level gives what
    the network grid gives when it is brought down to the level.

    Args:
        paths: files of anatomies.
        level: 1 (finest) to L.

    Returns:
        Anatomies with a leading axis; hu float16, labels uint8.
    """
    anatomies = []
    for path in paths:
        with np.load(path) as arrays:
            pair = Anatomy(**{name: arrays[name] for name in Anatomy._fields})
        for one in range(2):
            anatomy = _at_level(jax.tree.map(lambda a, i=one: a[i], pair), level)
            anatomies.append(jax.device_get(anatomy))
    return jax.tree.map(jnp.asarray, _stack(anatomies))


@functools.partial(jax.jit, static_argnames="level")
def _at_level(anatomy: Anatomy, level: int) -> Anatomy:
    hu = jnp.asarray(anatomy.hu, jnp.float32)
    for _ in range(level - 2):
        hu = halve(hu)
    hu = binomial(hu) if level > 1 else hu
    return jax.tree.map(jnp.asarray, anatomy._replace(hu=hu.astype(jnp.float16)))


def _anatomy(image: Volume, labels: Volume) -> Anatomy:
    inside = np.argwhere(labels.data > 0)
    return Anatomy(
        hu=np.clip(image.data, AIR_HU, 2000.0).astype(np.float16),
        labels=labels.data.astype(np.uint8),
        box=np.stack([inside.min(axis=0), inside.max(axis=0)]).astype(np.float32),
        spacing_mm=np.array(image.grid.spacing_mm, np.float32),
    )


def _real_anatomy(image: Volume, labels: Volume | None, name: str, shape: Shape) -> Anatomy:
    """Anatomy of an image of any grid: its lungs with a margin, axes along RAS."""
    check_ct(image, name)
    labels = lung_mask(image) if labels is None else labels
    lower, upper = lung_box(labels) + np.array([[-MARGIN_MM], [MARGIN_MM]])
    affine = np.diag([*(upper - lower) / shape, 1.0])
    affine[:3, 3] = lower + np.diag(affine)[:3] / 2.0
    grid = Grid((shape[0], shape[1], shape[2]), affine)
    lobes = labels_on_grid(labels, grid).astype(np.uint8)
    if lobes.max() > LOBES:
        raise ValueError(
            f"{name}_labels: expected 1 to {LOBES} (RU RM RL LU LL), or 1 right and 2 left lung, "
            f"got {lobes.max()}. Renumber them, or leave them out to use the lungs."
        )
    if lobes.max() <= 2:
        renumbered = np.zeros(LOBES + 1, np.uint8)
        renumbered[list(LUNGS_AS_LOBES)] = list(LUNGS_AS_LOBES.values())
        lobes = renumbered[lobes]
    return _anatomy(Volume(image_on_grid(image, grid), affine), Volume(lobes, affine))


def _stack(anatomies: Sequence[Anatomy]) -> Anatomy:
    return jax.tree.map(lambda *arrays: np.stack(arrays), *anatomies)

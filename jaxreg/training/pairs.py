"""Training pairs: prepared once as files on the network grid, then read in a fixed random order.

A pair goes through the steps of a registration (lung masks, prealignment, lung grid) and is written
as one .npz file, so that an epoch reads small arrays. `batches` is a grain dataset: the order
depends on the seed alone, and the position in it is part of a checkpoint.
"""

import functools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import grain
import jax
import jax.numpy as jnp
import numpy as np

from jaxreg.config import LungGridConfig, RegistrationConfig
from jaxreg.datasets.manifest import read_manifest
from jaxreg.geometry.lung_grid import labels_on_grid, points_on_grid
from jaxreg.geometry.reduction import factors_between, reduced_labels
from jaxreg.geometry.volume import Volume
from jaxreg.lungs.pair import labels_of_pair
from jaxreg.ops.pyramid import halve
from jaxreg.ops.types import Shape
from jaxreg.phantom.pair import phantom_pair
from jaxreg.pipeline.align import align
from jaxreg.pipeline.keypoints import pair_keypoints
from jaxreg.training.losses import Example
from jaxreg.training.prepared import entry_name, prepare_files

_LOG = logging.getLogger(__name__)

MOST_LABELS = 16  # each costs two images of memory in training
KEYPOINTS = 1024  # places for keypoints in a prepared pair; more are thinned, fewer filled up
CACHE_BYTES = 2 * 2**30  # of examples kept in memory
VALIDATION_SEED = 10_000_000  # phantoms for validation count from here, for tests from twice that


class Pair(NamedTuple):
    """A prepared training pair on the network grid, as it is kept in a file.

    Attributes:
        fixed: HU, (X, Y, Z).
        moving: HU on the same lattice, (X, Y, Z).
        fixed_labels: 0 background, 1..K, (X, Y, Z); nonzero is lung.
        moving_labels: the same of the moving image.
        fixed_keypoints: voxels, (N, 3).
        moving_keypoints: where they went, voxels, (N, 3).
        keypoint_weights: 1, or 0 for places that only fill up the array, (N,).
        spacing_mm: millimetres a voxel, (3,).
    """

    fixed: np.ndarray
    moving: np.ndarray
    fixed_labels: np.ndarray
    moving_labels: np.ndarray
    fixed_keypoints: np.ndarray
    moving_keypoints: np.ndarray
    keypoint_weights: np.ndarray
    spacing_mm: np.ndarray


def prepare(
    fixed: Volume,
    moving: Volume,
    fixed_labels: Volume | None,
    moving_labels: Volume | None,
    points: tuple[np.ndarray, np.ndarray] | None,
    *,
    grid: Shape,
) -> Pair:
    """A pair brought to the network grid, as a registration would bring it there.

    Args:
        fixed: HU.
        moving: HU, any grid.
        fixed_labels: lobes or lungs of the fixed image; found automatically if None. What numbers
            of both images mean is decided by `jaxreg.lungs.pair.labels_of_pair`.
        moving_labels: the same of the moving image.
        points: keypoints and where they went, RAS mm, (N, 3) each, N may be 0; detected if None.
        grid: network grid.

    Returns:
        The pair as arrays of the host; images are int16, label maps uint8.

    Raises:
        ValueError: an image is no CT in HU, no lungs are found, or labels are on another grid.
    """
    config = RegistrationConfig(grid=LungGridConfig(shape=(grid[0], grid[1], grid[2])))
    pair = align(fixed, moving, fixed_mask=fixed_labels, moving_mask=moving_labels, config=config)
    if points is None:
        found = pair_keypoints(pair)
        _LOG.info("no keypoints given: %d detected", len(found.fixed))
        points = (found.fixed, found.moving)
    fixed_points, moving_points = points
    chosen = np.linspace(0, len(fixed_points) - 1, min(KEYPOINTS, len(fixed_points))).astype(int)
    count = len(chosen)
    keypoints = np.zeros((2, KEYPOINTS, 3), np.float32)
    keypoints[0, :count] = points_on_grid(fixed_points[chosen], pair.grid)
    keypoints[1, :count] = points_on_grid(moving_points[chosen], pair.grid, matrix=pair.matrix)
    given = [
        None if labels is None else reduced_labels(labels, factors_between(labels.grid, image.grid))
        for labels, image in zip((fixed_labels, moving_labels), pair.images, strict=True)
    ]
    labels = labels_of_pair(given[0], given[1], pair.masks)
    most = int(labels[0].data.max())
    if most > MOST_LABELS:
        raise ValueError(
            f"fixed_labels: expected at most {MOST_LABELS} labels, got {most}. Leave them out to "
            "use the lungs."
        )
    return Pair(
        fixed=np.round(pair.fixed).astype(np.int16),
        moving=np.round(pair.moving).astype(np.int16),
        fixed_labels=labels_on_grid(labels[0], pair.grid),
        moving_labels=labels_on_grid(labels[1], pair.grid, matrix=pair.matrix),
        fixed_keypoints=keypoints[0],
        moving_keypoints=keypoints[1],
        keypoint_weights=(np.arange(KEYPOINTS) < count).astype(np.float32),
        spacing_mm=np.array(pair.spacing_mm, np.float32),
    )


def _phantom(seed: int, grid: Shape, detected: bool) -> Pair:
    """Phantom `seed`, kinds of motion and phases in turn; ground truth or detected keypoints."""
    rng = np.random.default_rng([seed, 1])
    pair = phantom_pair(
        seed,
        shape=(128, 104, 120),
        spacing_mm=(3.0, 3.0, 3.0),
        motion=("4dct", "breath-hold")[seed % 2],
        fixed_phase=("inhale", "exhale")[(seed // 2) % 2],
    )
    voxels = np.argwhere(pair.fixed_labels.data > 0)
    drawn = voxels[rng.choice(len(voxels), KEYPOINTS // 2, replace=False)]
    drawn = drawn + rng.uniform(-0.5, 0.5, drawn.shape)
    lung_points = pair.fixed.world_from_voxel(drawn)
    moved_points = pair.displacement.transform_points(lung_points)
    landmarks = rng.permutation(len(pair.fixed_landmarks))[: KEYPOINTS // 2]
    points = (
        np.concatenate([pair.fixed_landmarks[landmarks], lung_points]),
        np.concatenate([pair.moving_landmarks[landmarks], moved_points]),
    )
    return prepare(
        pair.fixed,
        pair.moving,
        pair.fixed_labels,
        pair.moving_labels,
        None if detected else points,
        grid=grid,
    )


def prepare_phantoms(
    folder: Path, seeds: Sequence[int], *, grid: Shape, detected: bool = False
) -> list[Path]:
    """Files of generated pairs; those that exist already are kept.

    Args:
        folder: where to.
        seeds: one a pair.
        grid: network grid.
        detected: whether keypoints are those that the detector finds, not ground truth.

    Returns:
        One file a pair, in order.

    Raises:
        ValueError: the folder was made for another grid.
    """
    name = "detected" if detected else "phantom"
    makers = [(f"{name}_{s}", lambda s=s: _phantom(s, grid, detected)) for s in seeds]
    return prepare_files(folder, makers, grid)


def prepare_manifest(folder: Path, manifest: Path, *, grid: Shape) -> list[Path]:
    """Files of the pairs that a manifest lists; those that exist already are kept.

    Keypoints are those of the manifest, or detected where it has none, which the log says;
    landmarks are for evaluation and never trained on. Labels are its labels or masks, or lungs
    found automatically.

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
        points = pair.keypoints
        return prepare(
            pair.fixed,
            pair.moving,
            pair.fixed_labels or pair.fixed_mask,
            pair.moving_labels or pair.moving_mask,
            None if points is None else (points.fixed, points.moving),
            grid=grid,
        )

    entries = read_manifest(manifest)
    makers = [(entry_name(entry), lambda entry=entry: make(entry)) for entry in entries]
    return prepare_files(folder, makers, grid)


def read_pair(path: Path) -> Pair:
    """A prepared pair, images as float32."""
    with np.load(path) as arrays:
        pair = Pair(**{name: arrays[name] for name in Pair._fields})
    return pair._replace(fixed=pair.fixed.astype(np.float32), moving=pair.moving.astype(np.float32))


@functools.partial(jax.jit, static_argnames=("level", "labels"))
def example_at(pair: Pair, *, level: int, labels: int) -> Example:
    """The pair as a level sees it: everything on 1/2^(level-1) of the network grid.

    Args:
        pair: on the network grid.
        level: 1 is the network grid itself.
        labels: K; the label maps become shares of K labels.

    Returns:
        Images, shares and keypoints on the grid of the level.
    """
    names = jnp.arange(1, labels + 1)[None, None, None]
    images = [
        pair.fixed,
        pair.moving,
        (pair.fixed_labels[..., None] == names).astype(jnp.float32),
        (pair.moving_labels[..., None] == names).astype(jnp.float32),
    ]
    for _ in range(level - 1):
        images = [halve(image) for image in images]
    fixed, moving, fixed_shares, moving_shares = images
    scale = 2.0 ** (level - 1)
    # voxel i of the coarse grid is centred at scale * i + (scale - 1) / 2 of the fine one
    centre = (scale - 1.0) / 2.0
    return Example(
        fixed=fixed,
        moving=moving,
        mask=jnp.sum(fixed_shares, axis=-1),
        fixed_labels=fixed_shares,
        moving_labels=moving_shares,
        fixed_keypoints=(pair.fixed_keypoints - centre) / scale,
        moving_keypoints=(pair.moving_keypoints - centre) / scale,
        keypoint_weights=jnp.asarray(pair.keypoint_weights),
        spacing_mm=pair.spacing_mm * scale,
    )


def read_example(path: Path, level: int, *, labels: int) -> Example:
    """A prepared pair as a level sees it.

    Args:
        path: of the prepared pair.
        level: 1 is the finest.
        labels: largest label; see `label_count`.

    Returns:
        The pair, in host memory.
    """
    return jax.device_get(example_at(read_pair(path), level=level, labels=labels))


class _Examples:
    """Random access source for grain; as many examples as fit in `CACHE_BYTES` are kept."""

    def __init__(self, paths: Sequence[Path], level: int, labels: int):
        self.paths = list(paths)
        read = functools.partial(read_example, level=level, labels=labels)
        size = sum(array.nbytes for array in read(self.paths[0]))
        self.read = functools.lru_cache(maxsize=CACHE_BYTES // size)(read)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index) -> Example:
        return self.read(self.paths[index])


def batches(
    paths: Sequence[Path], level: int, *, labels: int, seed: int, batch: int
) -> grain.DatasetIterator:
    """Batches in an order that depends on the seed alone, each epoch shuffled anew.

    Args:
        paths: files of prepared pairs.
        level: whose grid the examples are on.
        labels: K, number of labels.
        seed: of the order.
        batch: pairs a batch.

    Returns:
        Iterator over `Example` with a leading batch axis; get_state and set_state
        give and set its position.
    """
    files = _Examples(paths, level, labels)
    source = grain.MapDataset.source(files).seed(seed).shuffle().repeat()
    batched = source.batch(batch, drop_remainder=True)
    return iter(batched.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)))


def label_count(paths: Sequence[Path]) -> int:
    """Largest label in the files: 2 for lungs, 5 for lobes."""
    counts = []
    for path in paths:
        pair = read_pair(path)
        counts.append(max(int(pair.fixed_labels.max()), int(pair.moving_labels.max())))
    return max(counts)

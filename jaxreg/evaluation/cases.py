"""Cases to evaluate on, from any data set, in one form.

A data set is a list of cases, none of which is read before its turn: a case that is damaged is its
own failure. What needs landmarks alone (the initial error) does without the images.
"""

import dataclasses
import os
from collections.abc import Callable, Sequence

import numpy as np

from jaxreg.data import dirlab
from jaxreg.data.grid import Grid
from jaxreg.data.landmarks import Landmarks
from jaxreg.data.manifest import LoadedPair, Pair, read_manifest
from jaxreg.data.phantom import phantom_pair

PHANTOM_SEED = 20_000_000  # training draws from 0, validation from half of it
PHANTOM_SHAPE = (160, 128, 160)  # about 2 mm
PHANTOM_CASES = 4


@dataclasses.dataclass(frozen=True, eq=False)
class Truth:
    """What a registration is held against.

    Attributes:
        fixed_phase: which breathing state is fixed, in words.
        landmarks: corresponding points, or None.
        snap_grid: grid of the moving image, where the landmarks are whole voxels of it and the
            snapped protocol applies; else None.
        images: reads images, masks and label maps.
    """

    fixed_phase: str
    landmarks: Landmarks | None
    snap_grid: Grid | None
    images: Callable[[], LoadedPair]


@dataclasses.dataclass(frozen=True)
class Case:
    """A case that is not read yet.

    Attributes:
        name: unique in its data set, usable in file names.
        load: reads it; raises ValueError or OSError where it cannot.
    """

    name: str
    load: Callable[[], Truth]


def dirlab_cases(folder: str | os.PathLike, *, dataset: str = "4dct") -> list[Case]:
    """Returns the cases whose landmarks lie in a folder of DIR-Lab data, inhale fixed.

    Args:
        folder: as unpacked; see `jaxreg.data.dirlab`.
        dataset: "4dct" or "copd".
    """

    def load(number: int) -> Truth:
        case = dirlab.read_case(folder, number, dataset=dataset)
        grid = Grid(case.reference.shape, case.affine)
        points = [
            grid.world_from_voxel(voxels)
            for voxels in (case.fixed_landmarks, case.moving_landmarks)
        ]
        return Truth(
            fixed_phase=f"{case.fixed_phase} (inhale)",
            landmarks=Landmarks(*points, kind=np.full(len(points[0]), "")),
            snap_grid=grid,
            images=lambda: _pair(str(number), case.read_fixed(), case.read_moving()),
        )

    numbers = dirlab.find_cases(folder, dataset=dataset)
    return [Case(str(number), _bound(load, number)) for number in numbers]


def phantom_cases() -> list[Case]:
    """Returns generated pairs that no training has seen, quiet and deep breathing in turn."""

    def load(number: int) -> Truth:
        pair = phantom_pair(
            PHANTOM_SEED + number,
            shape=PHANTOM_SHAPE,
            motion="4dct" if number % 2 else "breath-hold",
        )
        points = pair.fixed_landmarks, pair.moving_landmarks
        labels = {"fixed_labels": pair.fixed_labels, "moving_labels": pair.moving_labels}
        return Truth(
            fixed_phase="inhale",
            landmarks=Landmarks(*points, kind=np.full(len(points[0]), "vessel")),
            snap_grid=None,
            images=lambda: _pair(str(number), pair.fixed, pair.moving, **labels),
        )

    return [Case(str(number), _bound(load, number)) for number in range(1, PHANTOM_CASES + 1)]


def manifest_cases(path: str | os.PathLike) -> list[Case]:
    """Returns the pairs of a manifest."""

    def load(pair: Pair) -> Truth:
        loaded = pair.load()
        return Truth("as in the manifest", loaded.landmarks, None, lambda: loaded)

    return [Case(pair.id, _bound(load, pair)) for pair in read_manifest(path)]


def choose(cases: Sequence[Case], names: Sequence[str] | None) -> list[Case]:
    """Returns the cases of these names, all of them for None."""
    known = {case.name: case for case in cases}
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise ValueError(
            f"cases: expected some of {', '.join(known)}, got {', '.join(unknown)}. "
            "Choose from those that were found."
        )
    return list(cases) if names is None else [known[name] for name in names]


def _bound(load, argument):
    return lambda: load(argument)


def _pair(name, fixed, moving, *, fixed_labels=None, moving_labels=None):
    return LoadedPair(
        id=name,
        fixed=fixed,
        moving=moving,
        fixed_mask=None,
        moving_mask=None,
        fixed_labels=fixed_labels,
        moving_labels=moving_labels,
        keypoints=None,
        landmarks=None,
    )

"""Data sets to evaluate on, in one form: a list of cases, and what is published about them.

No case is read before its turn: one that is damaged is its own failure. What needs landmarks alone
(the initial error of DIR-Lab) does without the images.
"""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import jax
import numpy as np

from jaxreg.benchmark import published
from jaxreg.benchmark.table import Row
from jaxreg.datasets import dirlab, empire10, learn2reg
from jaxreg.datasets.manifest import LoadedPair, Pair, read_manifest
from jaxreg.geometry.grid import Grid
from jaxreg.geometry.volume import DisplacementField, Volume
from jaxreg.io.points import Landmarks
from jaxreg.metrics.folding import learn2reg_folding
from jaxreg.ops.jacobian import jacobian_determinant
from jaxreg.phantom.pair import phantom_pair

PHANTOM_SEED = 20_000_000  # training draws from 0, validation from half of it
PHANTOM_SHAPE = (160, 128, 160)  # about 2 mm
PHANTOM_CASES = 10  # as many as DIR-Lab has; with fewer no star is possible among six methods
PHANTOM_LOBES = MappingProxyType(
    {
        "1": "right upper",
        "2": "right middle",
        "3": "right lower",
        "4": "left upper",
        "5": "left lower",
    }
)

Deliver = Callable[[Path, LoadedPair, DisplacementField], Mapping[str, float]]


class PhaseOf(NamedTuple):
    """Which phase of a series the moving image of a case is.

    Attributes:
        read: reads all phases, the fixed image first; the same object for all cases of a series.
        index: of the moving image among them.
    """

    read: Callable[[], Sequence[Volume]]
    index: int


@dataclasses.dataclass(frozen=True, eq=False)
class GroundTruth:
    """What a registration is held against.

    Attributes:
        fixed_phase: which respiratory state is fixed, in words.
        landmarks: corresponding points, or None.
        snap_grid: grid of the moving image, where the landmarks are whole voxels of it and the
            snapped protocol applies; such data have neither masks nor labels. Else None.
        images: reads images, masks, label maps and keypoints.
        phase: of a series, where the case is a part of one.
    """

    fixed_phase: str
    landmarks: Landmarks | None
    snap_grid: Grid | None
    images: Callable[[], LoadedPair]
    phase: PhaseOf | None = None


@dataclasses.dataclass(frozen=True)
class Case:
    """A case that is not read yet.

    Attributes:
        name: unique in its data set.
        load: reads it; raises ValueError or OSError where it cannot.
    """

    name: str
    load: Callable[[], GroundTruth]


@dataclasses.dataclass(frozen=True, eq=False)
class DataSet:
    """Cases, and figures to print beside those of ours.

    Attributes:
        name: of its folder of results.
        source: where the cases are from, kept with the results.
        cases: none of them read yet.
        published: rows of methods in the columns of `jaxreg.benchmark.rows.summary_rows`.
        published_cases: by name, TRE of cases 1, 2, ..., mm.
        label_names: of the labels, such as {"1": "right upper"}.
        deliver: writes the field of a pair into a folder as the data set's challenge wants it, and
            returns scores by the challenge's own definitions, by column; None where there is none.
    """

    name: str
    source: str
    cases: Sequence[Case]
    published: Sequence[Row] = ()
    published_cases: Mapping[str, Sequence[float]] = dataclasses.field(default_factory=dict)
    label_names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    deliver: Deliver | None = None


def dirlab_data(folder: str | os.PathLike, *, collection: str = "4dct") -> DataSet:
    """Returns the cases whose landmarks lie in a folder of DIR-Lab data, inhale fixed.

    Args:
        folder: as unpacked; see `jaxreg.datasets.dirlab`.
        collection: "4dct" or "copd".
    """

    def load(number: int) -> GroundTruth:
        case = dirlab.read_case(folder, number, dataset=collection)
        grid = dirlab.image_grid(number, dataset=collection)
        points = [
            grid.world_from_voxel(voxels)
            for voxels in (case.fixed_landmarks, case.moving_landmarks)
        ]
        return GroundTruth(
            fixed_phase=f"{case.fixed_phase} (inhale)",
            landmarks=Landmarks(*points, kind=np.full(len(points[0]), "")),
            snap_grid=grid,
            images=lambda: image_pair(str(number), case.read_fixed(), case.read_moving()),
        )

    numbers = dirlab.find_cases(folder, dataset=collection)
    name, rows, beside = {
        "4dct": ("dirlab", published.DIRLAB, published.DIRLAB_CASES),
        "copd": ("dirlab-copd", published.DIRLAB_COPD, published.DIRLAB_COPD_CASES),
    }[collection]
    cases = [Case(str(number), functools.partial(load, number)) for number in numbers]
    return DataSet(name, str(folder), cases, [row.row() for row in rows], beside)


def phantom_data() -> DataSet:
    """Returns generated pairs that no training has seen, quiet and deep respiration in turn."""

    def load(number: int) -> GroundTruth:
        pair = phantom_pair(
            PHANTOM_SEED + number,
            shape=PHANTOM_SHAPE,
            motion="4dct" if number % 2 else "breath-hold",
        )
        points = pair.fixed_landmarks, pair.moving_landmarks
        labels = {"fixed_labels": pair.fixed_labels, "moving_labels": pair.moving_labels}
        return GroundTruth(
            fixed_phase="inhale",
            landmarks=Landmarks(*points, kind=np.full(len(points[0]), "vessel")),
            snap_grid=None,
            images=lambda: image_pair(str(number), pair.fixed, pair.moving, **labels),
        )

    numbers = range(1, PHANTOM_CASES + 1)
    cases = [Case(str(number), functools.partial(load, number)) for number in numbers]
    source = f"seeds above {PHANTOM_SEED}, {PHANTOM_SHAPE} voxels"
    return DataSet("phantom", source, cases, label_names=PHANTOM_LOBES)


def manifest_data(path: str | os.PathLike) -> DataSet:
    """Returns the pairs of a manifest."""
    pairs = read_manifest(path)
    return DataSet("manifest", _source(path), _pair_cases(pairs, Pair.load, "as in the manifest"))


def copdgene_data(path: str | os.PathLike) -> DataSet:
    """Returns the pairs of a manifest with lobes, Table 1 of the paper beside.

    COPDGene is given out on request and without lobes, so that pairs and masks are the user's.

    Args:
        path: manifest whose pairs all have `fixed_labels` and `moving_labels`.

    Raises:
        FileNotFoundError: there is no such manifest.
        ValueError: the manifest is not right, or a pair has no lobes.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"{path}: expected a manifest of COPDGene pairs, got no such file. Request the scans "
            "at https://www.copdgene.org, segment the lobes, and write "
            '[{"fixed": "1/insp.nii.gz", "moving": "1/exp.nii.gz", "fixed_labels": '
            '"1/insp_lobes.nii.gz", "moving_labels": "1/exp_lobes.nii.gz"}, ...].'
        )
    pairs = read_manifest(path)
    bare = [pair.id for pair in pairs if not (pair.fixed_labels and pair.moving_labels)]
    if bare:
        raise ValueError(
            f"{path}: expected fixed_labels and moving_labels (lobes) of every pair, got none of "
            f"{', '.join(bare)}. Add them, or use --manifest."
        )
    cases = _pair_cases(pairs, Pair.load, "as in the manifest")
    rows = [row.row() for row in published.COPDGENE]
    return DataSet("copdgene", _source(path), cases, rows)


def empire10_data(folder: str | os.PathLike) -> DataSet:
    """Returns the pairs of EMPIRE10, which are written as the challenge's submission."""

    def deliver(target: Path, pair: LoadedPair, field: DisplacementField) -> Mapping[str, float]:
        empire10.write_submission(target, pair.id, field, pair.moving.grid)
        return {}

    cases = _pair_cases(empire10.find_pairs(folder), Pair.load, "as in the challenge")
    rows = [row.row() for row in published.EMPIRE10]
    return DataSet("empire10", str(folder), cases, rows, deliver=deliver)


def learn2reg_data(path: str | os.PathLike) -> DataSet:
    """Returns the pairs of a Learn2Reg task, which are written and scored in its format."""
    dataset = learn2reg.read_dataset(path)

    def deliver(target: Path, pair: LoadedPair, field: DisplacementField) -> Mapping[str, float]:
        u = learn2reg.write_displacement(target, pair, field)
        mask = pair.fixed_mask.data if dataset.masked and pair.fixed_mask else None
        folding = learn2reg_folding(np.asarray(jax.jit(jacobian_determinant)(u)), mask=mask)
        return {"SDlogJ": folding.sd_log, "folded voxels": float(folding.folds)}

    cases = _pair_cases(dataset.pairs, learn2reg.load_pair, "as in the challenge")
    source = f"{_source(path)}, {dataset.name}, {dataset.listed}"
    return DataSet("learn2reg", source, cases, deliver=deliver)


READERS: Mapping[str, Callable[[str], DataSet]] = {
    "dirlab": dirlab_data,
    "dirlab_copd": functools.partial(dirlab_data, collection="copd"),
    "empire10": empire10_data,
    "learn2reg": learn2reg_data,
    "copdgene": copdgene_data,
    "manifest": manifest_data,
}


def choose(cases: Sequence[Case], names: Sequence[str] | None) -> list[Case]:
    """Returns the cases of these names, in the order of the names.

    Args:
        cases: those of a data set.
        names: of the cases wanted; None for all of them.

    Returns:
        The cases.

    Raises:
        ValueError: a name belongs to no case.
    """
    known = {case.name: case for case in cases}
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise ValueError(
            f"cases: expected some of {', '.join(known)}, got {', '.join(unknown)}. "
            "Choose from those that were found."
        )
    return list(cases) if names is None else [known[name] for name in names]


def _pair_cases(pairs: Sequence[Pair], read: Callable[[Pair], LoadedPair], phase: str):
    def load(pair: Pair) -> GroundTruth:
        loaded = read(pair)
        return GroundTruth(phase, loaded.landmarks, None, lambda: loaded)

    return [Case(pair.id, functools.partial(load, pair)) for pair in pairs]


def _source(path):
    """The file and what is in it, so that results of another content are not taken for this."""
    return f"{path} {hashlib.sha256(Path(path).read_bytes()).hexdigest()[:12]}"


def image_pair(
    name: str,
    fixed: Volume,
    moving: Volume,
    *,
    fixed_labels: Volume | None = None,
    moving_labels: Volume | None = None,
) -> LoadedPair:
    """Returns two images, and perhaps their labels, as a pair without masks and keypoints.

    Args:
        name: of the pair.
        fixed: HU.
        moving: HU.
        fixed_labels: on the grid of `fixed`.
        moving_labels: on the grid of `moving`.
    """
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

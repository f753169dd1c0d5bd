"""The phases of DIR-Lab 4DCT as cases: 75 landmarks followed through a half of the cycle."""

import functools
import os
from collections.abc import Sequence

import numpy as np

from jaxreg.benchmark.cases import Case, DataSet, GroundTruth, PhaseOf, image_pair
from jaxreg.config import RegistrationConfig, SeriesConfig
from jaxreg.datasets import dirlab
from jaxreg.geometry.volume import Volume
from jaxreg.io.points import Landmarks

# T50 is not followed by T00: smoothing over a whole cycle would draw exhale towards inhale.
SETTINGS = RegistrationConfig(series=SeriesConfig(cyclic=False))


def dirlab_phases_data(folder: str | os.PathLike) -> DataSet:
    """Returns the phases T10 to T50 of DIR-Lab 4DCT, each a case with 75 landmarks; T00 is fixed.

    Args:
        folder: as unpacked; see `jaxreg.datasets.dirlab`.

    Raises:
        FileNotFoundError: no file of 75 landmarks is there.
    """

    @functools.lru_cache(maxsize=1)
    def images(number: int) -> Sequence[Volume]:
        return dirlab.read_phases(folder, number)

    cases = []
    for number in dirlab.find_cases(folder, kind="sampled"):
        read = functools.partial(images, number)
        for index, phase in enumerate(dirlab.PHASES[1:], 1):
            load = functools.partial(_load, folder, number, PhaseOf(read, index))
            cases.append(Case(f"{number}-{phase}", load))
    return DataSet("dirlab-phases", str(folder), cases)


def _load(folder: str | os.PathLike, number: int, phase: PhaseOf) -> GroundTruth:
    points, grid = dirlab.read_sampled_landmarks(folder, number), dirlab.image_grid(number)
    ends = [grid.world_from_voxel(points[index]) for index in (0, phase.index)]

    def images():
        read = phase.read()
        return image_pair(f"{number}-{dirlab.PHASES[phase.index]}", read[0], read[phase.index])

    return GroundTruth(
        fixed_phase=f"{dirlab.PHASES[0]} (inhale)",
        landmarks=Landmarks(*ends, kind=np.full(len(ends[0]), "")),
        snap_grid=grid,
        images=images,
        phase=phase,
    )

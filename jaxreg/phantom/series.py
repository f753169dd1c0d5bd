"""A generated thorax through one breath: the phases of a 4DCT with their ground truth."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxreg.geometry.volume import Volume
from jaxreg.phantom.motion import Motion, draw_motion
from jaxreg.phantom.pair import branchings, check, grid_axes, well_inside
from jaxreg.phantom.scan import Scan, draw_subject, render

_LAG = 0.06  # of a cycle, by which chest wall and waves follow the diaphragm: hysteresis


@dataclasses.dataclass(frozen=True, eq=False)
class PhantomSeries:
    """The phases of one respiratory cycle of one subject and the ground truth between them.

    Attributes:
        phases: CT in HU, all on one grid; the first is at the end of inhalation.
        labels: lobes of each, 1..5 = right upper, middle, lower, left upper, lower.
        trajectories: (T, N, 3), where N vessel branchings lie in each of the T phases, RAS mm.
    """

    phases: tuple[Volume, ...]
    labels: tuple[Volume, ...]
    trajectories: np.ndarray


def phantom_series(
    seed: int,
    *,
    phases: int = 10,
    shape: Sequence[int] = (96, 80, 96),
    spacing_mm: Sequence[float] | None = None,
    motion: str | int | float = "4dct",
) -> PhantomSeries:
    """Returns scans of a generated subject at equal steps of one respiratory cycle.

    The diaphragm follows 1 - cos^4 of half the cycle, longer at the end of exhalation than at that
    of inhalation (Lujan et al. 1999, Med Phys 26(5), with n = 2). Chest wall and the finer motion
    follow it by a fraction of the cycle, so that tissue goes in and out on different paths
    (hysteresis).

    Args:
        seed: subject, respiratory motion and noise; the same seed and options give the same bits.
        phases: T, at least 2.
        shape: voxels along x, y, z of every phase.
        spacing_mm: voxel size; by default the grid spans the chest.
        motion: as in `jaxreg.phantom.pair.phantom_pair`, from the end of inhalation to that of
            exhalation.

    Returns:
        The phases with lobes and points that are followed through all of them.

    Raises:
        ValueError: an argument is out of range; the text names it.
    """
    check(seed, shape, spacing_mm, motion)
    if phases < 2:
        raise ValueError(f"phases: expected at least 2, got {phases}. A 4DCT has about 10.")
    subject = draw_subject(np.random.default_rng([seed, 0]))
    respiration = draw_motion(
        np.random.default_rng([seed, 1]), subject.thorax.cavity, subject.lung_points, motion
    )
    rng = np.random.default_rng([seed, 2])
    axes = grid_axes(rng, subject.thorax, shape, spacing_mm)
    affine = np.diag([*(axis[1] - axis[0] for axis in axes), 1.0])
    origin = rng.uniform(-90.0, 90.0, size=3)
    affine[:3, 3] = origin + [axis[0] for axis in axes]
    blur_mm = rng.uniform(0.5, 0.9) + 0.25 * float(np.mean(np.diag(affine)[:3]))
    scan = Scan(axes, blur_mm, noise_hu=rng.uniform(12.0, 30.0))
    states = [_at(respiration, index / phases) for index in range(phases)]
    scans = [render(subject, state, scan, rng) for state in states]
    nodes = branchings(subject)
    index = (states[0].content(nodes) - [axis[0] for axis in axes]) / np.diag(affine)[:3]
    nodes = nodes[well_inside(index, scans[0][1])]
    return PhantomSeries(
        phases=tuple(Volume(hu, affine) for hu, _ in scans),
        labels=tuple(Volume(lobes, affine) for _, lobes in scans),
        trajectories=np.stack([state.content(nodes) for state in states]) + origin,
    )


def _at(motion: Motion, time: float) -> Motion:
    """The map from the inhaled state to that at a time, a fraction of the cycle."""
    depth, late = (1.0 - np.cos(np.pi * (time - lag)) ** 4 for lag in (0.0, _LAG))
    vectors, phases, amplitudes = motion.waves
    return dataclasses.replace(
        motion,
        amplitude_mm=motion.amplitude_mm * depth,
        wall=(motion.wall[0] * late, motion.wall[1] * late),
        drift_mm=(motion.drift_mm[0] * late, motion.drift_mm[1] * late),
        waves=(vectors, phases, amplitudes * late),
    )

"""Nodules of the phantom, which change between two scans of a subject.

A nodule is an ellipsoid of one density. Its centre moves with the lung tissue around it, its shape
does not: a tumour is stiffer than the lung. Its volume in a scan is therefore known.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxreg.phantom import anatomy, tissue, trees

KINDS = ("stable", "grown", "shrunk", "new", "vanished")
_RADIUS_MM = (3.5, 8.0)  # of the larger of both states
_VOLUME_RATIO = (1.5, 4.0)  # of the larger to the smaller state
_SOLID_HU, _GROUND_GLASS_HU = (-20.0, 60.0), (-550.0, -400.0)
_GROUND_GLASS = 0.2  # of all nodules
_APART_MM = 30.0
_FROM_PLEURA_MM, _FROM_VESSELS_MM, _WIDE_MM = 1.5, 1.5, 2.0  # vessels that are wide
_TRIES = 4000
_SAMPLES = 5  # along each axis of a voxel


@dataclasses.dataclass(frozen=True, eq=False)
class Nodule:
    """A nodule in both scans of a pair.

    Attributes:
        kind: one of KINDS: of the fixed scan against the moving one, which is the earlier.
        fixed_mm: centre in the fixed scan, or where it would lie there, (3,) RAS mm.
        moving_mm: the same in the moving scan.
        fixed_ml: volume in the fixed scan; 0 where it shows none.
        moving_ml: the same in the moving scan.
        hu: density.
    """

    kind: str
    fixed_mm: np.ndarray
    moving_mm: np.ndarray
    fixed_ml: float
    moving_ml: float
    hu: float


@dataclasses.dataclass(frozen=True, eq=False)
class Body:
    """A nodule in one scan.

    Attributes:
        centre: (3,) anatomical mm (`jaxreg.phantom.anatomy`).
        axes_mm: half axes (3,); 0 where the scan shows none.
        hu: density.
    """

    centre: np.ndarray
    axes_mm: np.ndarray
    hu: float

    @property
    def ml(self) -> float:
        """Volume."""
        return float(4.0 / 3.0 * np.pi * np.prod(self.axes_mm) / 1e3)


@dataclasses.dataclass(frozen=True, eq=False)
class Drawn:
    """A nodule of a subject, in the inhaled state.

    Attributes:
        kind: one of KINDS.
        centre: (3,) anatomical mm.
        axes_mm: half axes in the fixed and in the moving scan, (2, 3); 0 where it shows none.
        hu: density.
    """

    kind: str
    centre: np.ndarray
    axes_mm: np.ndarray
    hu: float

    def body(self, scan: int, centre: np.ndarray) -> Body:
        """The nodule in one scan.

        Args:
            scan: 0 the fixed one, 1 the moving one.
            centre: where it lies there, (3,) anatomical mm.

        Returns:
            The nodule.
        """
        return Body(centre, self.axes_mm[scan], self.hu)


def draw_nodules(
    rng: np.random.Generator,
    thorax: anatomy.Thorax,
    vessels: Sequence[trees.Tree],
    lung_points: np.ndarray,
    count: int,
) -> tuple[Drawn, ...]:
    """Random nodules within the lungs, beside wide vessels and not in them; all kinds in turn.

    Args:
        rng: source of randomness.
        thorax: of the subject.
        vessels: of the subject.
        lung_points: (N, 3) points throughout the lungs.
        count: how many.

    Returns:
        The nodules, in random order of kinds.

    Raises:
        ValueError: there is no room for so many.
    """
    wide = [tree.nodes[tree.radius_mm > _WIDE_MM] for tree in vessels]
    radii = [tree.radius_mm[tree.radius_mm > _WIDE_MM] for tree in vessels]
    wide, radii = np.concatenate(wide), np.concatenate(radii)
    kinds = [KINDS[i % len(KINDS)] for i in range(count)]
    found: list[Drawn] = []
    for _ in range(_TRIES):
        if len(found) == count:
            break
        axes_mm = _axes(rng, kinds[len(found)])
        reach = axes_mm.max()
        centre = lung_points[rng.integers(len(lung_points))] + rng.uniform(-3.0, 3.0, 3)
        depth = -float(anatomy.Content(thorax, *centre[:, None]).lung[0])
        beside = np.linalg.norm(wide - centre, axis=1) - radii
        others = [np.linalg.norm(nodule.centre - centre) for nodule in found]
        free = depth > reach + _FROM_PLEURA_MM and beside.min() > reach + _FROM_VESSELS_MM
        if free and min(others, default=np.inf) > _APART_MM:
            glass = rng.uniform() < _GROUND_GLASS
            hu = float(rng.uniform(*(_GROUND_GLASS_HU if glass else _SOLID_HU)))
            found.append(Drawn(kinds[len(found)], centre, axes_mm, hu))
    if len(found) < count:
        raise ValueError(
            f"nodules: expected as many as have room in the lungs, got {count}, of which "
            f"{len(found)} have. Ask for fewer."
        )
    return tuple(found[i] for i in rng.permutation(count))


def _axes(rng: np.random.Generator, kind: str) -> np.ndarray:
    """Half axes in the fixed and the moving scan, (2, 3)."""
    shape = np.exp(rng.uniform(-0.15, 0.15, 3))
    larger = rng.uniform(*_RADIUS_MM) * shape / np.cbrt(shape.prod())
    smaller = larger / np.cbrt(rng.uniform(*_VOLUME_RATIO))
    return np.array(
        {
            "stable": (larger, larger),
            "grown": (larger, smaller),
            "shrunk": (smaller, larger),
            "new": (larger, np.zeros(3)),
            "vanished": (np.zeros(3), larger),
        }[kind]
    )


def paint_nodules(
    hu: np.ndarray, bodies: Sequence[Body], axes: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> None:
    """Paints nodules over an image, in place; what is denser (a vessel in ground glass) stays.

    Args:
        hu: (X, Y, Z).
        bodies: nodules.
        axes: voxel centres along each axis, mm.
    """
    for body in bodies:
        if not body.axes_mm.any():
            continue
        box, fraction = _fractions(body, axes)
        hu[box] = tissue.paint(hu[box], fraction, np.maximum(hu[box], body.hu))


def _fractions(body: Body, axes) -> tuple[tuple[slice, ...], np.ndarray]:
    """The voxels around a nodule, and which fraction of each it fills."""
    box, squares = [], []
    for axis, centre, half in zip(axes, body.centre, body.axes_mm, strict=True):
        step = axis[1] - axis[0]
        near = np.flatnonzero(np.abs(axis - centre) <= half + step)
        first, last = (int(near[0]), int(near[-1]) + 1) if len(near) else (0, 0)
        box.append(slice(first, last))
        inside = step * ((np.arange(_SAMPLES) + 0.5) / _SAMPLES - 0.5)
        squares.append((((axis[first:last, None] + inside).ravel() - centre) / half) ** 2)
    x, y, z = squares
    within = x[:, None, None] + y[:, None] + z <= 1.0
    shape = [n for side in box for n in (side.stop - side.start, _SAMPLES)]
    fraction = within.reshape(shape).mean(axis=(1, 3, 5))
    return tuple(box), fraction.astype(np.float32)

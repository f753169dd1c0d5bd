"""Where a field jumps across a whole slice: slices are missing, repeated or displaced in a scan.

Respiration moves neighbouring slices alike, and what differs between them changes steadily along
the body. A scan that lacks slices, or whose slices come from two positions of the patient, moves
all of the lungs at one height against all of them at the next. In planes z across the axis of the
body, with m the median over the lungs,

    J(z) = m[u(z + 2) - u(z - 2)],    jump(z) = |J(z) - (J(z - 8) + J(z + 8)) / 2|.

It is 0 where u is a polynomial of degree 2 in z. Over fewer than four voxels the field is smooth,
whatever the images show; a step of centimetres is spread over eight of them or more.
"""

from typing import NamedTuple

import numpy as np

from jaxreg.ops.types import AnyArray, Displacement

SPAN = 2  # half of the distance over which J is taken, voxels
_BESIDE = 8  # distance of the planes with which it is compared, voxels
_REACH = 4  # voxels: further from a jump errors are as small as without one
_LEAST_AREA = 0.3  # of a plane that counts, of the largest one: at the ends few voxels decide
_LEAST_SHOWN = 0.9  # of a plane that counts: where a scan ends the field is squeezed


class Jumps(NamedTuple):
    """How the field changes along the body, at each plane of the third axis.

    Attributes:
        shift: J, voxels, (Z, 3); NaN where the plane does not count.
        size: jump, voxels, (Z,); 0 where that or a plane beside it does not count.
    """

    shift: np.ndarray
    size: np.ndarray

    def near(self, largest: float) -> np.ndarray:
        """Whether planes lie beside a jump that is larger than allowed, (Z,)."""
        planes = np.arange(len(self.size))
        jumps = np.flatnonzero(self.size > largest)
        return np.any(np.abs(planes[:, None] - jumps) <= _REACH, axis=1)


def jumps_of(u: Displacement, lungs: AnyArray, shown: AnyArray) -> Jumps:
    """How a field jumps across the planes in which both images show the lungs.

    Args:
        u: displacement, voxels, (X, Y, Z, 3), the third axis along the body.
        lungs: those of the fixed image, nonzero inside, (X, Y, Z).
        shown: how far both images show lung there, 0 to 1, (X, Y, Z).

    Returns:
        The jumps.
    """
    u, inside = np.asarray(u), np.asarray(lungs) > 0
    area = inside.sum((0, 1))
    share = (inside * np.asarray(shown)).sum((0, 1)) / np.maximum(area, 1)
    counts = (area > _LEAST_AREA * area.max()) & (share > _LEAST_SHOWN)
    shift = np.full((len(area), 3), np.nan)
    for z in range(SPAN, len(area) - SPAN):
        window = slice(z - SPAN, z + SPAN + 1)
        common = inside[:, :, window].all(axis=2)
        if counts[window].all() and 2 * common.sum() > area[z]:
            change = u[:, :, z + SPAN] - u[:, :, z - SPAN]
            shift[z] = np.median(change[common], axis=0)
    size = np.zeros(len(area))
    middle = shift[_BESIDE:-_BESIDE]
    beside = (shift[: -2 * _BESIDE] + shift[2 * _BESIDE :]) / 2
    size[_BESIDE : _BESIDE + len(middle)] = np.nan_to_num(np.linalg.norm(middle - beside, axis=1))
    return Jumps(shift, size)

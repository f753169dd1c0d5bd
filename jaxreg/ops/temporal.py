"""Displacements of one point over time: smoothing between phases, and what a cycle shows.

Arrays begin with the axis of time, (T, ...), at equal steps.
"""

import numpy as np
from jaxtyping import Float

from jaxreg.ops.types import AnyArray

_ORDER = 3  # of the differences in time that are penalised


def smoothing_matrix(
    phases: int, reference: int, *, weight: float, cyclic: bool
) -> Float[np.ndarray, "T T"]:
    """The linear map that smooths displacements over time.

    It takes u to the v that minimises sum over t of |v_t - u_t|^2 + weight sum of |D v|^2, where D
    takes third differences and the reference does not move. Third differences leave the first two
    harmonics of ten phases almost as they are (0.1 % and 5 % less with weight 0.02), and damp what
    changes from phase to phase.

    Args:
        phases: T.
        reference: index of the phase whose displacement is zero.
        weight: 0 changes nothing.
        cyclic: whether the last phase is followed by the first.

    Returns:
        The matrix; v = matrix @ u. The identity where there are too few phases for differences.
    """
    least = 2 * _ORDER if cyclic else _ORDER + 1
    if phases < least or weight == 0:
        return np.eye(phases)
    difference = np.eye(phases)
    for _ in range(_ORDER):
        difference = np.roll(difference, -1, axis=0) - difference
    if not cyclic:
        difference = difference[: phases - _ORDER]
    free = np.arange(phases) != reference
    system = (np.eye(phases) + weight * difference.T @ difference)[np.ix_(free, free)]
    matrix = np.zeros((phases, phases))
    matrix[np.ix_(free, free)] = np.linalg.inv(system)
    return matrix


def peak_to_peak(displacements: Float[AnyArray, "T N 3"]) -> Float[np.ndarray, "N"]:
    """The largest distance between two positions of each point, in the unit of `displacements`."""
    u = np.asarray(displacements)
    largest = np.zeros(u.shape[1], u.dtype)
    for step in range(1, len(u)):
        for first, second in zip(u[:-step], u[step:], strict=True):
            np.maximum(largest, np.sum((second - first) ** 2, axis=-1), out=largest)
    return np.sqrt(largest)


def delay(displacements: Float[AnyArray, "T N 3"]) -> Float[np.ndarray, "N"]:
    """By how much of the cycle each point lags behind the mean of all points, -0.5 to 0.5.

    Computed from the first harmonic c of the motion: the angle between c and that of the mean,
    summed over the three components. 0 where nothing moves.
    """
    u = np.asarray(displacements)
    turns = np.exp(-2j * np.pi * np.arange(len(u)) / len(u)).astype(np.complex64)
    harmonic = np.tensordot(turns, u, axes=(0, 0))
    together = harmonic @ np.conj(harmonic.mean(axis=0))
    return (-np.angle(together) / (2 * np.pi)).astype(np.float32)

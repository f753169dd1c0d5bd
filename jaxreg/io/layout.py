"""From the order of values in files, the first index fastest, to that of arrays, the last one."""

import itertools
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

_BLOCK = 32  # voxels along the second and third axis, copied at once: they fit a cache


def in_array_order(
    values: np.ndarray, dtype: np.typing.DTypeLike, *, signs: np.ndarray | None = None
) -> np.ndarray:
    """Values as a contiguous array of another type, on all cores.

    Args:
        values: (X, Y, Z) or vectors (X, Y, Z, C), in any order.
        dtype: of the result.
        signs: what the components of vectors are multiplied by, (C,).

    Returns:
        The same values, infinite where the type does not hold them; `values` themselves if they
        are such an array.
    """
    if signs is None and values.dtype == dtype and values.flags.c_contiguous:
        return values
    result = np.empty(values.shape, dtype)
    pairs = [(result, values, 1)]
    if values.ndim == 4:
        each = np.ones(values.shape[3]) if signs is None else signs
        pairs = [(result[..., c], values[..., c], sign) for c, sign in enumerate(each)]

    def copy(start: int) -> None:
        blocks = [
            (slice(None), slice(start, start + _BLOCK), slice(z, z + _BLOCK))
            for z in range(0, values.shape[2], _BLOCK)
        ]
        with np.errstate(over="ignore"):
            for (target, source, sign), block in itertools.product(pairs, blocks):
                target[block] = source[block]
                if sign != 1:
                    target[block] *= result.dtype.type(sign)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(copy, range(0, values.shape[1], _BLOCK)))
    return result

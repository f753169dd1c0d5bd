"""Large arrays worked on slab by slab: the memory of a slab at a time, and all cores at work."""

import itertools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from jaxreg.ops.precision import in_32_bits
from jaxreg.ops.types import Shape


def over_slabs(work: Callable[[int, int], None], size: int, thickness: int) -> None:
    """Calls a function for slabs that cover an axis, several at the same time.

    All slabs have one thickness, so that one compiled program serves: the last one begins early
    enough to be whole, and overlaps with the one before it. What the function stores must not
    depend on which of both stores it.

    Args:
        work: takes the first plane of a slab and the plane after its last one.
        size: planes in all.
        thickness: planes of a slab; all of them if there are fewer.
    """
    thickness = min(size, thickness)
    _at_all(lambda start: work(start, start + thickness), _starts(size, thickness))


def over_blocks(work: Callable[[tuple[slice, ...]], None], shape: Shape, edge: int) -> None:
    """Calls a function for cubes that cover a grid, several at the same time.

    All have one shape, whatever that of the grid, so that one compiled program serves all grids;
    an axis that is shorter is in each of them as a whole. The last ones along an axis overlap those
    before them (`over_slabs`).

    Args:
        work: takes the part of the grid.
        shape: of the grid.
        edge: of a cube, voxels.
    """
    edges = [min(size, edge) for size in shape]
    starts = [_starts(size, length) for size, length in zip(shape, edges, strict=True)]

    def one(corner: tuple[int, ...]) -> None:
        sides = zip(corner, edges, strict=True)
        work(tuple(slice(start, start + length) for start, length in sides))

    _at_all(one, list(itertools.product(*starts)))


def _starts(size: int, thickness: int) -> list[int]:
    return [*range(0, size - thickness, thickness), size - thickness]


def _at_all(work: Callable, places: Sequence) -> None:
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # programs hold no lock while they run
        list(pool.map(in_32_bits(work), places))  # settings of JAX hold for one thread

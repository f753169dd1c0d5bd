"""Large arrays worked on slab by slab: the memory of a slab at a time, and all cores at work."""

import itertools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from jaxreg.ops.precision import in_32_bits


def over_slabs(work: Callable[[int, int], None], size: int, thickness: int) -> None:
    """Calls a function for slabs that cover an axis, several at the same time.

    All slabs have one thickness, so that one compiled program serves: the last one begins early
    enough to be whole, and overlaps with the one before it. It comes after all others, so that what
    is stored in both is its own in every run.

    Args:
        work: takes the first plane of a slab and the plane after its last one.
        size: planes in all.
        thickness: planes of a slab; all of them if there are fewer.
    """
    over_blocks(lambda block: work(block[0].start, block[0].stop), (size,), thickness)


def over_blocks(work: Callable[[tuple[slice, ...]], None], shape: Sequence[int], edge: int) -> None:
    """Calls a function for cubes that cover a grid, several at the same time.

    All have one shape, whatever that of the grid, so that one compiled program serves all grids;
    an axis that is shorter is in each of them as a whole. The last ones along an axis overlap those
    before them and come after them: those that are last along the same axes, which do not overlap
    one another, at the same time.

    Args:
        work: takes the part of the grid.
        shape: of the grid.
        edge: of a cube, voxels.
    """
    edges = [min(size, edge) for size in shape]
    regular = [range(0, size - length, length) for size, length in zip(shape, edges, strict=True)]
    last = [(size - length,) for size, length in zip(shape, edges, strict=True)]

    def one(corner: tuple[int, ...]) -> None:
        sides = zip(corner, edges, strict=True)
        work(tuple(slice(start, start + length) for start, length in sides))

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # programs hold no lock while they run
        for starts in itertools.product(*zip(regular, last, strict=True)):
            # settings of JAX hold for one thread
            list(pool.map(in_32_bits(one), itertools.product(*starts)))

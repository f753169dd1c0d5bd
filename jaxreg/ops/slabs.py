"""Large arrays worked on slab by slab: the memory of a slab at a time, and all cores at work."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from jaxreg.ops.precision import in_32_bits


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
    starts = [*range(0, size - thickness, thickness), size - thickness]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # programs hold no lock while they run
        # settings of JAX hold for one thread
        list(pool.map(in_32_bits(lambda start: work(start, start + thickness)), starts))

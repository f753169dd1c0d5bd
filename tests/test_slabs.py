import time

import numpy as np
import pytest

from jaxreg.ops.slabs import over_blocks, over_slabs


def test_the_last_slab_stores_what_two_slabs_hold():
    """Even where the one before it, of which it repeats a part, takes longer."""
    first_plane = np.full(37, -1)

    def work(first, stop):
        time.sleep(0.1 if first == 24 else 0.0)
        first_plane[first:stop] = first

    over_slabs(work, 37, 12)
    np.testing.assert_array_equal(first_plane, [0] * 12 + [12] * 12 + [24] * 1 + [25] * 12)


@pytest.mark.parametrize("shape", [(11, 9, 5), (4, 3, 2), (8, 8, 8), (1, 13, 6)])
def test_blocks_store_as_one_after_the_other(shape):
    """Each voxel holds the number of the last axes of its block, whatever block ends first."""
    found = np.full(shape, -1)
    rng = np.random.default_rng(0)
    rows = []

    def work(block):
        time.sleep(float(rng.uniform(0.0, 0.01)))
        rows.append(tuple(side.stop - side.start for side in block))
        found[block] = sum(
            (side.stop == size) << axis
            for axis, (side, size) in enumerate(zip(block, shape, strict=True))
        )

    over_blocks(work, shape, 4)
    assert set(rows) == {tuple(min(size, 4) for size in shape)}
    assert len(rows) == np.prod([-(-size // 4) for size in shape])
    expected = sum(
        (place >= size - 4).astype(int) << axis
        for axis, (place, size) in enumerate(zip(np.indices(shape), shape, strict=True))
    )
    np.testing.assert_array_equal(found, expected)

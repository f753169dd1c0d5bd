"""Normal equations on half of the grid against an explicit loop."""

import numpy as np

from jaxreg.engine.normal_equations import normal_equations
from jaxreg.ops.symmetric import INDICES

SHAPE = (4, 6, 8)


def test_they_are_the_means_over_eight_voxels_of_an_explicit_loop():
    rng = np.random.default_rng(3)
    slopes = rng.normal(size=(3, *SHAPE)).astype(np.float32)
    residual = rng.normal(size=SHAPE).astype(np.float32)
    weight = rng.uniform(size=SHAPE).astype(np.float32)
    a, b = normal_equations(slopes, residual, weight)
    assert a.shape == (6, 2, 3, 4)
    assert b.shape == (3, 2, 3, 4)
    for voxel in np.ndindex(2, 3, 4):
        matrix, vector = np.zeros((3, 3)), np.zeros(3)
        for corner in np.ndindex(2, 2, 2):
            x, y, z = (2 * i + j for i, j in zip(voxel, corner, strict=True))
            s, w = slopes[:, x, y, z], weight[x, y, z]
            matrix += w * np.outer(s, s) / 8
            vector += w * residual[x, y, z] * s / 8
        found = a[(slice(None), *voxel)]
        np.testing.assert_allclose(found, [matrix[i, j] for i, j in INDICES], atol=1e-5)
        np.testing.assert_allclose(b[(slice(None), *voxel)], vector, atol=1e-5)

import numpy as np
import pytest

from jaxreg.geometry.volume import DisplacementField, Volume
from jaxreg.pipeline.result import Registration

SHAPE = (9, 8, 7)
AFFINE = np.diag([-2.0, 1.5, 3.0, 1.0])


def shifted(error=None):
    """An image whose moving one lies two voxels further along x, and the field that says so."""
    data = np.random.default_rng(0).normal(-600.0, 200.0, SHAPE).astype(np.float32)
    mask = np.zeros(SHAPE, np.uint8)
    mask[1:-3, 1:-1, 1:-1] = 1
    u = np.zeros((*SHAPE, 3), np.float32)
    u[..., 0] = 2.0
    return Registration(
        Volume(data, AFFINE),
        Volume(np.roll(data, 2, axis=0), AFFINE),
        DisplacementField.from_voxels(u, AFFINE),
        Volume(mask, AFFINE),
        np.eye(4),
        {},
        inverse_consistency=error,
    )


def test_measures_of_a_known_shift():
    measures = shifted().measures()
    assert measures["correlation_after"] == pytest.approx(1.0, abs=1e-5)
    assert abs(measures["correlation_before"]) < 0.3
    assert measures["folds_in_lungs"] == 0
    assert measures["jacobian_percentiles"] == pytest.approx(
        {"1": 1.0, "5": 1.0, "50": 1.0, "95": 1.0, "99": 1.0}
    )
    assert measures["inverse_consistency_mm"] == {}


def test_inverse_consistency_is_measured_in_the_lungs_alone():
    error = np.full(SHAPE, 9.0, np.float32)
    error[1:-3, 1:-1, 1:-1] = 0.5
    measures = shifted(Volume(error, AFFINE)).measures()
    assert measures["inverse_consistency_mm"] == {"50": 0.5, "95": 0.5, "99": 0.5}

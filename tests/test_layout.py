import warnings

import numpy as np
import pytest

from jaxreg.io import layout
from jaxreg.io.layout import in_array_order

VALUES = np.random.default_rng(0).integers(-1000, 3000, (7, 70, 45)).astype(np.int16)
VECTORS = np.random.default_rng(1).normal(size=(6, 41, 37, 3))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("block", [3, 32])
def test_values_are_the_same_in_another_order(order, block, monkeypatch):
    monkeypatch.setattr(layout, "_BLOCK", block)
    found = in_array_order(np.array(VALUES, order=order), np.float32)
    assert found.flags.c_contiguous and found.dtype == np.float32
    np.testing.assert_array_equal(found, VALUES)
    signs = np.array([-1.0, 1.0, -1.0])
    found = in_array_order(np.array(VECTORS, order=order), np.float32, signs=signs)
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, (VECTORS * signs).astype(np.float32))


def test_an_array_that_is_in_order_is_not_copied():
    assert in_array_order(VALUES, np.int16) is VALUES


def test_what_the_type_does_not_hold_is_infinite_without_a_word():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isinf(in_array_order(np.full((3, 4, 5), 1e300), np.float32)).all()

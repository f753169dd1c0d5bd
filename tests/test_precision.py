"""64-bit types switched on by the caller: the same bits, and 32 bits inside of the caller's jit."""

import functools
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy import ndimage

from jaxreg.config import NetworkConfig
from jaxreg.engine.gauss_newton import refine
from jaxreg.network.cascade import init_level
from jaxreg.pipeline.registration import register

SHAPE = (16, 18, 17)
SPACING = (10.0, 12.0, 11.0)
UNET = NetworkConfig(grid=(12, 10, 11), levels=2, widths=(2, 3), convs=1)
SQUARES = NetworkConfig(
    grid=(12, 10, 11), architecture="least_squares", levels=1, widths=(2,), rounds=(1,)
)


def image(seed):
    texture = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 1.5)
    return (300.0 * texture / texture.std() - 500.0).astype(np.float32)


# Of one texture, a voxel apart, each with its own noise: rounding grows where nothing fits.
FIXED, NOISE, MASK = image(0), image(1) + 500.0, np.ones(SHAPE, np.float32)
MOVING = (ndimage.shift(FIXED, (0.8, -0.5, 0.3), order=1, mode="nearest") + NOISE / 30).astype("f4")


@functools.cache
def params_of(config):
    """Drawn where they are needed first: a program for them costs seconds."""
    levels = range(config.by_hand + 1, config.levels + 1)
    with jax.enable_x64(False):
        drawn = {f"level_{n}": init_level(jax.random.key(n), config) for n in levels}
    return jax.tree.map(np.asarray, drawn)


def by_networks(config):
    return lambda fixed, moving: register(fixed, moving, params=params_of(config), config=config)


def by_optimisation(fixed, moving):
    return refine(fixed, moving, MASK, spacing_mm=SPACING)


FUNCTIONS = {
    "unet": by_networks(UNET),
    "least squares": by_networks(SQUARES),
    "refine": by_optimisation,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_arrays_give_the_same_bits_and_close_ones_under_jit(name):
    function = FUNCTIONS[name]
    expected = np.asarray(function(FIXED, MOVING))
    assert expected.dtype == np.float32 and np.abs(expected).max() > 1e-3
    wide = [np.asarray(array, np.float64) for array in (FIXED, MOVING)]
    with jax.enable_x64(True):
        for arrays in ((FIXED, MOVING), wide):
            found = function(*arrays)
            assert found.dtype == np.float32
            np.testing.assert_array_equal(found, expected)
        jitted = jax.jit(function)(*wide)
    assert jitted.dtype == np.float32
    np.testing.assert_allclose(jitted, expected, atol=1e-3)


def test_the_caller_may_differentiate_in_64_bits():
    def size(fixed):
        return (FUNCTIONS["unet"](fixed, MOVING) ** 2).sum()

    expected = jax.jit(jax.grad(size))(FIXED)
    with jax.enable_x64(True):
        found = jax.jit(jax.grad(size))(np.asarray(FIXED, np.float64))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, atol=1e-3 * float(np.abs(expected).max()))


def digests():
    found = (np.asarray(FUNCTIONS[name](FIXED, MOVING)) for name in ("unet", "refine"))
    return [hashlib.sha256(array.tobytes()).hexdigest() for array in found]


@pytest.mark.slow
def test_the_environment_variable_changes_no_bit():
    """In a process of its own, where all modules are imported with 64-bit types on."""
    code = (
        "import sys, jax; sys.path.insert(0, sys.argv[1]); import test_precision as t; "
        "assert jax.config.jax_enable_x64; print(*t.digests())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent)],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "JAX_ENABLE_X64": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == digests()

"""Settings and fixtures of the whole suite."""

import os
from pathlib import Path

import jax
import pytest

# A silent broadcast of (3,) against (X, Y, Z, 3) is how an axis gets lost: write it out instead.
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def key():
    """A fixed random key; split it where more than one is needed."""
    return jax.random.key(0)


@pytest.fixture(scope="session")
def shared():
    """Folder of the development data, or a skip that says where it was looked for."""
    beside = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("JAXREG_SHARED", beside))
    if not (folder / "data").is_dir():
        pytest.skip(f"no development data: set JAXREG_SHARED (looked for {folder / 'data'})")
    return folder

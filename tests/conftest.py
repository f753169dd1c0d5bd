"""Settings and fixtures of the whole suite."""

import os
from pathlib import Path

import hypothesis
import jax
import pytest


def pytest_configure(config):
    """Asks only the tests' own process for warnings about encodings; keeps compiled programs.

    Commands that tests start would write to stderr what other packages open (see Makefile). The
    compiled programs of a worker and of its commands stay in pytest's cache for the next run
    (`--cache-clear` removes them). Each worker has its own: JAX writes them without a lock.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker or not config.getoption("numprocesses", None):
        os.environ.pop("PYTHONWARNDEFAULTENCODING", None)
    folder = str(config.cache.mkdir("compiled") / (worker or "alone"))
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


# A silent broadcast of (3,) against (X, Y, Z, 3) is how an axis gets lost: write it out instead.
jax.config.update("jax_numpy_rank_promotion", "raise")

# The same few examples in every run, however slow the machine is.
hypothesis.settings.register_profile(
    "jaxreg", derandomize=True, database=None, deadline=None, max_examples=25
)
hypothesis.settings.load_profile("jaxreg")


@pytest.fixture(scope="module")
def quick_compilation():
    """Compiles the programs of a module in half of the time; they run more slowly."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    jax.clear_caches()


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


# What `jaxreg evaluate` is tested with. Imported where used: jaxreg must not be loaded before the
# hook that checks its types.


@pytest.fixture(scope="module")
def evaluate():
    """`jaxreg evaluate` as a function from arguments to the exit status."""
    from evaluation_data import evaluate

    return evaluate


@pytest.fixture
def registered(monkeypatch):
    """Replaces registration by the known field; holds the methods it was called with."""
    from evaluation_data import known_registration

    calls = []
    monkeypatch.setattr("jaxreg.benchmark.methods.register_volumes", known_registration(calls))
    return calls


@pytest.fixture
def labelled(tmp_path):
    """A manifest of pairs "a/b" and "c" with lungs and points 5 mm apart; its path, the image."""
    from evaluation_data import write_labelled

    return write_labelled(tmp_path)

"""Signals, devices, warnings and the compilation cache, as a person at a terminal meets them."""

import signal
import warnings

import pytest
from processes import start

from jaxreg.cli import session
from jaxreg.io.notes import note


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "status", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_a_signal_ends_with_one_line_and_leaves_nothing(tmp_path, number, status, word):
    process = start("-m", "jaxreg", "demo", "--out", tmp_path / "out")
    assert process.stdout is not None and "generating" in process.stdout.readline()
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == status
    assert errors.strip() == f"jaxreg: {word}."
    assert not list((tmp_path / "out").iterdir())


def test_a_platform_that_is_not_there_is_named(tmp_path):
    process = start("-m", "jaxreg", "demo", "--out", tmp_path, JAX_PLATFORMS="cuda")
    _, errors = process.communicate(timeout=120)
    last = errors.splitlines()[-1]
    assert process.returncode == 1 and "Traceback" not in errors
    assert last.startswith("jaxreg: JAX_PLATFORMS: expected a platform that JAX can use here, got")


CACHED = """
import sys, jax
from jaxreg.cli import session

jax.config.update("jax_compilation_cache_dir", sys.argv[1])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
with session.warnings_as_lines():
    jax.jit(lambda x: x * 3 + 1)(2.0)
"""


@pytest.mark.slow
def test_a_damaged_entry_of_the_cache_is_replaced(tmp_path):
    def run():
        _, errors = start("-c", CACHED, tmp_path).communicate(timeout=120)
        assert not errors
        return {path: path.read_bytes() for path in tmp_path.glob("*-cache")}

    whole = run()
    for path in whole:
        path.write_bytes(b"damaged")
    assert whole and run().keys() == whole.keys()
    assert all(len(content) > 100 for content in run().values())


def test_warnings_are_lines(capsys):
    with session.warnings_as_lines():
        note("a.nii.gz", "other-grid", "these labels are\non another grid.")
        note("a.nii.gz", "other-grid", "these labels are\non another grid.")
    line = "warning: a.nii.gz: these labels are on another grid.\n"
    assert capsys.readouterr().err == 2 * line
    with pytest.warns(UserWarning, match="afterwards as before"):
        warnings.warn("afterwards as before", stacklevel=1)

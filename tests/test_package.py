"""What a wheel holds: it must work where the repository is not."""

import json
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from training_pairs import write_pairs

from jaxreg.io.nifti import write_volume
from jaxreg.phantom.pair import phantom_pair

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*command, "--wheel-dir", folder, ROOT], capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return next(folder.glob("jaxreg-*.whl"))


def test_wheel_holds_every_module_the_weights_and_the_licence(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {str(p.relative_to(ROOT)) for p in (ROOT / "jaxreg").rglob("*.py")}
    assert modules <= names and "jaxreg/configs/ablation/L1.py" in modules
    weights = {f"jaxreg/weights/{name}.npz" for name in ("lung", "paper")}
    assert weights | {"jaxreg/benchmark/report.html"} <= names
    assert any(name.endswith("LICENSE") for name in names)
    assert not any(name.startswith(("tests/", "benchmarks/")) for name in names)


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder with the package of the wheel and nothing of the repository."""
    folder = tmp_path_factory.mktemp("installed")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def jaxreg(installed, workdir, *arguments):
    """Runs the installed package; returns what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-m", "jaxreg", *arguments],
        capture_output=True,
        encoding="utf-8",
        cwd=workdir,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_the_installed_package_is_the_one_that_runs(installed, tmp_path):
    code = "import jaxreg.network.weights as w; p, c = w.load_named('lung'); print(w.__file__, *p)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        encoding="utf-8",
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert str(installed) in done.stdout and "level_2" in done.stdout


ONE_LEVEL = """
import dataclasses
from jaxreg.config import with_levels
from jaxreg.configs.smoke import config as smoke
one = with_levels(smoke, (2,))
config = dataclasses.replace(
    one,
    network=dataclasses.replace(one.network, widths=(4,)),
    training=dataclasses.replace(one.training, detected=True),
)
"""


@pytest.mark.slow
def test_the_installed_package_trains_evaluates_and_registers(installed, tmp_path, monkeypatch):
    """All three by `python -m jaxreg` in a folder of its own; the data to train on is prepared.

    One level of one resolution, which says as much of the package as three.
    """
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # compiles in half of the time
    run = tmp_path / "runs" / "smoke"
    write_pairs(run / "pairs", [0, 1], name="detected")
    write_pairs(run / "pairs", [10_000_000])
    (tmp_path / "one.py").write_text(ONE_LEVEL, encoding="utf-8")
    words = ("--config", "one.py", "--workdir", "runs/smoke")
    jaxreg(installed, tmp_path, "train", "--level", "1", *words)
    assert (run / "weights.npz").is_file()

    words = ("--phantom", "--cases", "1", "--method", "initial", "--out", "scores")
    assert "| initial" in jaxreg(installed, tmp_path, "evaluate", *words)
    assert (tmp_path / "scores" / "phantom" / "report.html").is_file()

    pair = phantom_pair(3, shape=(60, 48, 52), spacing_mm=(6.0, 6.0, 6.0))
    for name, volume in (("fixed", pair.fixed), ("moving", pair.moving)):
        write_volume(tmp_path / f"{name}.nii.gz", volume)
    files = ("fixed.nii.gz", "moving.nii.gz")
    words = ("--method", "cascade", "--weights", "runs/smoke/weights.npz", "--out", "out")
    words += ("--set", "grid.shape=[64, 48, 56]")
    assert "correlation in the lungs" in jaxreg(installed, tmp_path, "register", *files, *words)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert summary["method"] == "cascade"


def test_lower_bounds_are_declared_for_every_import():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "dependencies"
    ]
    names = {entry.split(">=")[0] for entry in declared}
    assert {"jax", "flax", "optax", "orbax-checkpoint", "numpy", "scipy", "nibabel"} <= names
    assert {"click", "rich", "platformdirs", "jinja2"} <= names
    assert all(">=" in entry for entry in declared)

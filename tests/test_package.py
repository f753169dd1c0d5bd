"""What a wheel holds: it must work where the repository is not."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

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
    assert modules <= names
    assert "jaxreg/weights/lung.npz" in names
    assert any(name.endswith("LICENSE") for name in names)
    assert not any(name.startswith(("tests/", "benchmarks/")) for name in names)


def test_weights_of_the_wheel_are_found_without_the_repository(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = (
        "import jaxreg.network.weights as w; p, c = w.load_shipped(); print(w.__file__, sorted(p))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert str(tmp_path) in done.stdout and "level_1" in done.stdout


def test_lower_bounds_are_declared_for_every_import():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "dependencies"
    ]
    names = {entry.split(">=")[0] for entry in declared}
    assert {"jax", "flax", "optax", "orbax-checkpoint", "numpy", "scipy", "nibabel"} <= names
    assert all(">=" in entry for entry in declared)

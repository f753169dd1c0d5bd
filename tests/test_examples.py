"""The examples run as programs on small data, and show and print what their text says."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def run(name, out):
    """Runs an example in the folder of its results; returns what it printed."""
    words = [sys.executable, ROOT / "examples" / name, "--quick", "--out", out]
    environment = {
        **os.environ,
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # compiles in half of the time
        "PYTHONPATH": os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", ""))),
    }
    done = subprocess.run(
        words, capture_output=True, encoding="utf-8", cwd=out.parent, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def has_a_picture(path):
    """Whether an image is of some size and shows more than one shade in most of its rows."""
    with Image.open(path) as image:
        rows = np.asarray(image.convert("L").resize((200, 100)))
    return sum(len(np.unique(row)) > 2 for row in rows) > 40


def numbers(pattern, text):
    found = re.search(pattern, text)
    assert found, text
    return [float(group) for group in found.groups()]


@pytest.mark.slow
def test_register_and_inspect(tmp_path):
    printed = run("register_and_inspect.py", tmp_path / "out")
    before, after = numbers(r"TRE: (\S+) mm before, (\S+) mm after", printed)
    assert after < 1.0 < before
    before, after = numbers(r"lungs: (\S+) before, (\S+) after", printed)
    assert after > before
    assert numbers(r"not proven free of folds: (\d+)", printed) == [0]
    assert min(numbers(r"1: (\S+), 2: (\S+), 3: (\S+), 4: (\S+), 5: (\S+)", printed)) > 0.8
    assert has_a_picture(tmp_path / "out" / "inspect.png")
    assert has_a_picture(tmp_path / "out" / "result" / "report.png")


@pytest.mark.slow
def test_train_on_own_pairs(tmp_path):
    printed = run("train_on_own_pairs.py", tmp_path / "out")
    (initial,) = numbers(r"TRE without registration: (\S+) mm", printed)
    (trained,) = numbers(r"TRE with cascade: (\S+) mm", printed)
    assert 0 < trained < 2 * initial
    assert (tmp_path / "out" / "training" / "weights.npz").is_file()
    assert has_a_picture(tmp_path / "out" / "training.png")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_cells_that_begin_with_text(path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# %% [markdown]\n# # ")
    ast.parse(text)
    assert text.count("# %% [markdown]") > 4
    assert f"python examples/{path.name}" in text


def test_there_are_examples():
    assert {path.stem for path in EXAMPLES} == {"register_and_inspect", "train_on_own_pairs"}

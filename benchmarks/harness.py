"""What benchmarks share: the command line, the table, development pairs, seconds and memory.

Each benchmark is a function that yields rows, all with the same columns. They are printed as they
come; with --json they are also kept in a file.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxreg.benchmark.table import shown
from jaxreg.geometry.volume import Volume
from jaxreg.io.nifti import read_volume
from jaxreg.io.points import Landmarks, read_landmarks

Row = Mapping[str, Any]


def parser(documentation: str) -> argparse.ArgumentParser:
    """A parser with --json whose help begins with the first line of a module's docstring."""
    found = argparse.ArgumentParser(description=documentation.splitlines()[0])
    found.add_argument("--json", type=Path, help="file to write the rows to")
    return found


def development_parser(documentation: str) -> argparse.ArgumentParser:
    """The same with the folder of the development pairs."""
    found = parser(documentation)
    shared = Path(os.environ.get("JAXREG_SHARED", "../shared"))
    found.add_argument("folder", nargs="?", type=Path, default=shared / "data")
    return found


def print_rows(rows: Iterable[Row], path: Path | None = None) -> list[Row]:
    """Prints rows as a Markdown table, and writes those so far to a JSON file after each.

    Returns:
        The rows.
    """
    done = []
    for row in rows:
        if not done:
            print(f"| {' | '.join(row)} |\n|{'---|' * len(row)}")
        print(f"| {' | '.join(shown(value) for value in row.values())} |", flush=True)
        done.append(row)
        if path:
            write_json(path, done)
    return done


def write_json(path: Path, value: Any) -> None:
    """Writes a value whose numbers may be numpy's."""
    path.write_text(json.dumps(value, indent=2, default=float) + "\n", encoding="utf-8")


def development_pairs(folder: Path) -> Iterator[tuple[Path, Volume, Volume, Landmarks]]:
    """Yields folder, fixed and moving image and landmarks of each pair that has landmarks."""
    for landmarks in sorted(folder.glob("*/landmarks.csv")):
        pair = landmarks.parent
        fixed, moving = (read_volume(pair / f"{name}.nii.gz") for name in ("fixed", "moving"))
        yield pair, fixed, moving, read_landmarks(landmarks, space="LPS")


def lengths(vectors_mm: np.ndarray) -> np.ndarray:
    """Lengths of vectors, (N, 3) -> (N,)."""
    return np.linalg.norm(vectors_mm, axis=-1)


def size(shape: Iterable[int]) -> str:
    """A shape in words: 96x80x96."""
    return "x".join(str(n) for n in shape)


def median_seconds(function: Callable[[], Any], rounds: int) -> float:
    """Median of several calls after a first one, which compiles."""
    jax.block_until_ready(function())
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        jax.block_until_ready(function())
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def run_register(pair: Path, method: str, out: str) -> tuple[float, float]:
    """Registers the files of a folder by `python -m jaxreg register`, no mask given.

    Returns:
        Wall seconds, and the greatest memory that the process held, MiB.
    """
    files = [str(pair / "fixed.nii.gz"), str(pair / "moving.nii.gz")]
    command = [sys.executable, "-m", "jaxreg", "register", *files, "--method", method, "--out", out]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"{' '.join(command)} failed")
    return time.perf_counter() - began, usage.ru_maxrss / 1024

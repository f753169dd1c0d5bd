"""What benchmarks share: the command line, the record, development pairs, seconds and memory.

Each benchmark is a function that yields rows, all with the same columns. They are printed as they
come. With --json FILE they are also kept as a record: the rows with the command, the date, the
version of jaxreg and the machine. Records in docs/results are what `make results` makes pages from.
"""

import argparse
import datetime
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import metadata
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
    found.add_argument("--json", type=Path, help="file to write the record to")
    found.set_defaults(parser=found, load=os.getloadavg()[0])
    return found


def development_parser(documentation: str) -> argparse.ArgumentParser:
    """The same with the folder of the development pairs."""
    found = parser(documentation)
    shared = Path(os.environ.get("JAXREG_SHARED", "../shared"))
    found.add_argument("folder", nargs="?", type=Path, default=shared / "data")
    return found


def print_rows(rows: Iterable[Row], options: argparse.Namespace | None = None) -> list[Row]:
    """Prints rows as a Markdown table; with --json keeps a record of those so far after each.

    Returns:
        The rows.
    """
    done: list[Row] = []
    for row in rows:
        if not done:
            print(f"| {' | '.join(row)} |\n|{'---|' * len(row)}")
        print(f"| {' | '.join(shown(value) for value in row.values())} |", flush=True)
        done.append(row)
        if options:
            keep(options, done)
    return done


def keep(options: argparse.Namespace, rows: Sequence[Row], **more: Any) -> None:
    """Writes the record of a benchmark to the file of --json, if there is one.

    Args:
        options: of the command line, from `parser`.
        rows: of the table.
        more: figures of all rows together.
    """
    if options.json:
        text = json.dumps(record(options, rows) | more, indent=1, default=float)
        options.json.write_text(text + "\n", encoding="utf-8")


def record(options: argparse.Namespace, rows: Sequence[Row]) -> dict[str, Any]:
    """Rows with what made them."""
    return {
        "command": command(options),
        "date": datetime.date.today().isoformat(),
        "version": metadata.version("jaxreg"),
        "settings": changed(options),
        "machine": machine() | {"load": round(options.load, 1)},
        "rows": list(rows),
    }


def changed(options: argparse.Namespace) -> dict[str, Any]:
    """Options that differ from the defaults; folders, which are this machine's, are left out."""
    values = {name: value for name, value in vars(options).items() if name not in _OWN}
    return {
        name: value
        for name, value in values.items()
        if not isinstance(value, Path) and value != options.parser.get_default(name)
    }


_OWN = ("json", "parser", "load")


def command(options: argparse.Namespace) -> str:
    """The command line without --json; a path outside of the project is called by its option."""
    words = sys.argv[1:]
    if "--json" in words:
        at = words.index("--json")
        words = words[:at] + words[at + 2 :]
    paths = {name: value for name, value in vars(options).items() if isinstance(value, Path)}
    outside = {
        str(path): name.upper()
        for name, path in paths.items()
        if path.is_absolute() or ".." in path.parts
    }
    words = [outside.get(word, word) for word in words]
    return shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *words])


def machine() -> dict[str, Any]:
    """The processor, how many of its cores this process may use, and the device of jax."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text(encoding="utf-8").splitlines() if about.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": next(iter(names), platform.processor() or platform.machine()),
        "cores": len(os.sched_getaffinity(0)),
        "device": jax.devices()[0].device_kind,
    }


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
    return in_a_process(command)


def in_a_process(command: Sequence[str]) -> tuple[float, float]:
    """Runs a command, started by a small process: a child counts what its parent holds as its own.

    Returns:
        Wall seconds, and the greatest memory that its process held, MiB.
    """
    began = time.perf_counter()
    started = [sys.executable, "-c", _STARTER, *command]
    found = subprocess.run(started, stdout=subprocess.PIPE, text=True, check=False)
    if found.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed")
    return time.perf_counter() - began, int(found.stdout) / 1024


_STARTER = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(status)
"""

"""`jaxreg cohort`: seconds a pair, with one worker and with two, and SIGKILL in the middle.

    python benchmarks/cohort.py                      24 generated pairs, about an hour on two cores
    python benchmarks/cohort.py --pairs 8 --shape 64 48 64 --method affine

A single `jaxreg register` of one of the pairs is what a pair is compared with. In the third run
workers are killed, in the fourth the command itself, which is then started again, at moments
(--kills) spread over the run. Pairs that are lost, that are made twice or that have other bits than
the single command's or the first run's are counted; the exit status is 1 if there are any.
"""

import argparse
import hashlib
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from harness import Row, parser, print_rows

from jaxreg.io.nifti import write_volume
from jaxreg.phantom.pair import phantom_pair

SEED = 20_000_200
FIELDS = ("displacement.nii.gz", "jacobian.nii.gz", "quality.nii.gz", "warped.nii.gz")


def main() -> None:
    """Runs the benchmark of the command line."""
    options = parser(__doc__ or "")
    options.add_argument("--pairs", type=int, default=24)
    options.add_argument("--shape", type=int, nargs=3, default=(96, 80, 96))
    options.add_argument("--method", default="classical")
    options.add_argument("--kills", type=int, default=5)
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = print_rows(measured(Path(folder), arguments), arguments)
    sys.exit(any(row[name] for row in rows for name in ("lost", "twice", "other bits")))


def measured(folder: Path, arguments: argparse.Namespace) -> Iterator[Row]:
    """A row for the single command and for each run."""
    table = write_pairs(folder, arguments.pairs, tuple(arguments.shape))
    common = ["--method", arguments.method]
    first = [str(folder / "0" / f"{name}.nii.gz") for name in ("fixed", "moving")]
    words = ["register", *first, *common, "--out", str(folder / "single")]
    single = statistics.median([seconds_of(words) for _ in range(4)][1:])  # the first compiles
    bits = digest(folder / "single")
    yield row("single command", 1, single, single, single, {})
    expected: dict[str, str] = {}
    for count, kill in ((1, ""), (2, ""), (2, "worker"), (2, "client")):
        out = folder / f"{count}{kill}"
        run = [str(table), "--out", str(out), *common, "--workers", str(count)]
        began = time.perf_counter()
        twice = killed(run, out, kill, arguments) if kill else finish(start(run))
        wall = time.perf_counter() - began
        found = {path.parent.name: digest(path.parent) for path in summaries(out)}
        expected = expected or found
        wrong = {
            "lost": arguments.pairs - len(found),
            "twice": twice,
            "other bits": sum(found.get(name) != value for name, value in expected.items())
            + (found.get("0") != bits),
        }
        name = f"cohort, {kill} killed {arguments.kills} times" if kill else "cohort"
        yield row(name, count, wall, after_the_first(out), single, wrong)


def row(name: str, workers: int, wall: float, pair: float, single: float, wrong: Row) -> Row:
    """A row of the table."""
    return {
        "run": name,
        "workers": workers,
        "seconds": wall,
        "s a pair after the first": pair,
        "of a single command": pair / single,
        "lost": wrong.get("lost", 0),
        "twice": wrong.get("twice", 0),
        "other bits": wrong.get("other bits", 0),
    }


def write_pairs(folder: Path, count: int, shape: tuple[int, int, int]) -> Path:
    """Writes generated pairs and their table."""
    lines = ["id,fixed,moving"]
    for number in range(count):
        pair = phantom_pair(SEED + number, shape=shape)
        (folder / str(number)).mkdir()
        for name in ("fixed", "moving"):
            write_volume(folder / str(number) / f"{name}.nii.gz", getattr(pair, name))
        lines.append(f"{number},{number}/fixed.nii.gz,{number}/moving.nii.gz")
    (folder / "pairs.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder / "pairs.csv"


def killed(run: list[str], out: Path, kill: str, arguments: argparse.Namespace) -> int:
    """A run in which processes are killed, in random moments after some of the results.

    Returns:
        How many finished pairs were made again.
    """
    chance = random.Random(0)
    step = max(1, (arguments.pairs - 2) // arguments.kills)
    process, finished = start(run), {}
    for done in range(1, 1 + step * arguments.kills, step):
        while len(summaries(out)) < done and process.poll() is None:
            time.sleep(0.1)
        time.sleep(chance.random() * 5)
        finished |= {path: path.stat().st_mtime_ns for path in summaries(out)}
        if kill == "worker":
            workers = [one for one in children(process) if "spawn_main" in " ".join(one.cmdline())]
            chance.choice(workers or [psutil.Process()]).kill()
        else:
            process.kill()
            process.wait()
            process = start(run)
    finish(process)
    return sum(path.stat().st_mtime_ns != changed for path, changed in finished.items())


def start(words: list[str]) -> subprocess.Popen:
    """Starts a run of the command."""
    command = [sys.executable, "-m", "jaxreg", "cohort", *words, "--quiet"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def finish(process: subprocess.Popen) -> int:
    """Waits for the end of a run; 0."""
    if process.wait() != 0:
        raise SystemExit("a run failed")
    return 0


def children(process: subprocess.Popen) -> list[psutil.Process]:
    """Processes that a run has started."""
    return psutil.Process(process.pid).children(recursive=True)


def summaries(out: Path) -> list[Path]:
    """The last file of each result set."""
    return list(out.glob("*/summary.json"))


def seconds_of(words: list[str]) -> float:
    """Wall seconds of a command."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "jaxreg", *words], check=True, capture_output=True)
    return time.perf_counter() - began


def digest(folder: Path) -> str:
    """A digest of the images of a result set."""
    content = b"".join((folder / name).read_bytes() for name in FIELDS)
    matrix = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return hashlib.sha256(content + str(matrix["prealignment_matrix"]).encode()).hexdigest()


def after_the_first(out: Path) -> float:
    """Seconds from the first result to the last, a pair."""
    times = sorted(path.stat().st_mtime for path in summaries(out))
    return (times[-1] - times[0]) / max(1, len(times) - 1)


if __name__ == "__main__":
    main()

"""Where the seconds of `jaxreg register` go, beside those of another version in the same minutes.

    python benchmarks/whole_run.py [FOLDER] [--pair cip64_m2] [--rounds 3] [--against PYTHON]
        [--json OUT]

FOLDER holds one folder a pair (default ../shared/data). The pair is registered by `python -m jaxreg
register`, no mask given, once to compile and then so many times; with --against, the Python of an
environment that has another version of jaxreg, in turn with it. Each figure is a median. "Rest" is
what the stages leave: imports, reading, writing and the picture.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import development_parser, print_rows

REST, WHOLE = "rest", "whole process"


def seconds(python: str, pair: Path) -> dict[str, float]:
    """Seconds of one run, by stage."""
    with tempfile.TemporaryDirectory() as out:
        files = [str(pair / "fixed.nii.gz"), str(pair / "moving.nii.gz")]
        began = time.perf_counter()
        subprocess.run(
            [python, "-m", "jaxreg", "register", *files, "--out", out],
            stdout=subprocess.DEVNULL,
            cwd=out,  # not where another version can be imported from
            check=True,
        )
        whole = time.perf_counter() - began
        summary = json.loads((Path(out) / "summary.json").read_text(encoding="utf-8"))
    stages = summary["seconds"]
    return {**stages, REST: whole - sum(stages.values()), WHOLE: whole}


def measure(pythons, pair, rounds):
    """Yields a row a stage: medians of each version, all of which run once a round."""
    for python in pythons.values():
        seconds(python, pair)
    runs = {name: [] for name in pythons}
    for _ in range(rounds):
        for name, python in pythons.items():
            runs[name].append(seconds(python, pair))
    first = next(iter(runs.values()))
    for stage in first[0]:
        yield {"stage": stage} | {
            f"{name} s": statistics.median(run[stage] for run in found)
            for name, found in runs.items()
        }


def main():
    """Prints the table."""
    parser = development_parser(__doc__)
    parser.add_argument("--pair", default="cip64_m2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--against", type=Path, help="Python with another version of jaxreg")
    options = parser.parse_args()
    pythons = {"now": sys.executable}
    if options.against:
        pythons = {"before": str(options.against.absolute()), **pythons}
    pair = (options.folder / options.pair).absolute()
    print_rows(measure(pythons, pair, options.rounds), options)


if __name__ == "__main__":
    main()

"""What benchmarks on the development pairs share: the command line and the table."""

import argparse
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from jaxreg.pipeline.registration import METHODS

Row = Mapping[str, str | int | float]


def print_table(
    run: Callable[[Path, str], Iterator[Row]], *, description: str, method: str
) -> None:
    """Prints the rows of every pair as they come, and writes them where --json says.

    Args:
        run: from the folder of a pair and a method to rows, all with the same columns.
        description: of the benchmark, for --help.
        method: the default.
    """
    parser = argparse.ArgumentParser(description=description)
    shared = Path(os.environ.get("JAXREG_SHARED", "../shared"))
    parser.add_argument("folder", nargs="?", type=Path, default=shared / "data")
    parser.add_argument("--method", default=method, choices=METHODS[1:])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    for landmarks in sorted(options.folder.glob("*/landmarks.csv")):
        for row in run(landmarks.parent, options.method):
            if not rows:
                print(f"| {' | '.join(row)} |\n|{'---|' * len(row)}")
            rows.append(row)
            cells = [v if isinstance(v, str) else f"{v:.3g}" for v in row.values()]
            print(f"| {' | '.join(cells)} |", flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")

"""Development pairs from files to files: error of the landmarks, seconds and memory of a process.

    python benchmarks/pairs.py [FOLDER] [--method classical] [--json OUT]

FOLDER holds one folder a pair (fixed.nii.gz, moving.nii.gz, landmarks.csv; default
../shared/data). Each pair is registered by `python -m jaxreg register`, no mask given, twice; the
seconds are those of both runs, of which the second finds its programs compiled. The written field
is read back and applied to the landmarks. docs/results/peers.json has other tools on these pairs.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
from harness import development_pairs, development_parser, lengths, print_rows, run_register

from jaxreg.io.nifti import read_displacement


def measure(pair, points, method):
    """Figures of one pair."""
    with tempfile.TemporaryDirectory() as out:
        runs = [run_register(pair, method, out) for _ in range(2)]
        field = read_displacement(Path(out) / "displacement.nii.gz")
        summary = json.loads((Path(out) / "summary.json").read_text(encoding="utf-8"))
    error = lengths(field.transform_points(points.fixed) - points.moving)
    vessel = points.kind == "vessel"
    return {
        "pair": pair.name,
        "method": method,
        "initial mm": lengths(points.fixed - points.moving)[vessel].mean(),
        "vessels mm": error[vessel].mean(),
        "median": np.median(error[vessel]),
        "p95": np.percentile(error[vessel], 95),
        "random mm": error[~vessel].mean(),
        "folds %": 100 * summary["folds_in_lungs"],
        "first run s": runs[0][0],
        "second run s": runs[1][0],
        "MiB": max(memory for _, memory in runs),
    }


def main():
    """Prints the table."""
    parser = development_parser(__doc__)
    parser.add_argument("--method", default="classical")
    options = parser.parse_args()
    pairs = development_pairs(options.folder)
    rows = (measure(pair, points, options.method) for pair, _, _, points in pairs)
    print_rows(rows, options)


if __name__ == "__main__":
    main()

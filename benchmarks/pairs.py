"""Development pairs from files to files: error of the landmarks, seconds and memory of a process.

    python benchmarks/pairs.py [FOLDER] [--method classical] [--json OUT]

FOLDER holds one folder a pair (fixed.nii.gz, moving.nii.gz, landmarks.csv; default
../shared/data). Each pair is registered by `python -m jaxreg register`, no mask given, twice; the
seconds are those of the second run, which finds its programs compiled. The written field is read
back and applied to the landmarks.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from jaxreg.io.nifti import read_displacement
from jaxreg.io.points import read_landmarks

# Best figure of any peer on each pair: mean and 95th percentile of vessels, mean of random points.
PEER = {
    "a0001_m3": (0.66, 2.10, 0.95),
    "a0001_m4": (0.62, 1.39, 0.91),
    "cip64_m2": (0.68, 1.37, 0.94),
    "cip64_m5": (0.72, 1.50, 1.09),
}


def register(pair, method, out):
    """Runs the command; returns its wall seconds."""
    files = [str(pair / "fixed.nii.gz"), str(pair / "moving.nii.gz")]
    command = [sys.executable, "-m", "jaxreg", "register", *files]
    began = time.perf_counter()
    subprocess.run(
        [*command, "--method", method, "--out", out], check=True, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - began


def run(pair, method):
    """Figures of one pair."""
    with tempfile.TemporaryDirectory() as out:
        seconds = [register(pair, method, out) for _ in range(2)]
        field = read_displacement(Path(out) / "displacement.nii.gz")
        summary = json.loads((Path(out) / "summary.json").read_text(encoding="utf-8"))
    points = read_landmarks(pair / "landmarks.csv", space="LPS")
    error = np.linalg.norm(field.transform_points(points.fixed) - points.moving, axis=1)
    initial = np.linalg.norm(points.fixed - points.moving, axis=1)
    vessel = points.kind == "vessel"
    return {
        "pair": pair.name,
        "initial_mm": initial[vessel].mean(),
        "vessel_mean_mm": error[vessel].mean(),
        "vessel_median_mm": np.median(error[vessel]),
        "vessel_p95_mm": np.percentile(error[vessel], 95),
        "random_mean_mm": error[~vessel].mean(),
        "folds_in_lungs": summary["folds_in_lungs"],
        "uncertified_cells": summary["certificate"]["uncertified"],
        "first_run_s": seconds[0],
        "second_run_s": seconds[1],
        "peak_mib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
    }


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    shared = Path(os.environ.get("JAXREG_SHARED", "../shared"))
    parser.add_argument("folder", nargs="?", type=Path, default=shared / "data")
    parser.add_argument("--method", default="classical")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    print("| pair | initial | mean | median | p95 | random | folds % | uncertified | s | MiB |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, peer in PEER.items():
        row = run(options.folder / name, options.method)
        rows.append(row | {"method": options.method, "best_peer_mm": peer})
        print(
            f"| {name} | {row['initial_mm']:.2f} | {row['vessel_mean_mm']:.2f} ({peer[0]:.2f}) | "
            f"{row['vessel_median_mm']:.2f} | {row['vessel_p95_mm']:.2f} ({peer[1]:.2f}) | "
            f"{row['random_mean_mm']:.2f} ({peer[2]:.2f}) | {100 * row['folds_in_lungs']:.4f} | "
            f"{row['uncertified_cells']} | {row['second_run_s']:.0f} | {row['peak_mib']:.0f} |",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

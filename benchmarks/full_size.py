"""A pair of 512x512x128 voxels from files to files: seconds, memory of the process, error.

    python benchmarks/full_size.py [--folder DIR] [--methods classical full] [--json OUT]

A phantom that held its breath twice, voxels of 0.72 x 0.72 x 2.5 mm, is written to --folder (made
in a minute or two; kept and used again) and registered by `python -m jaxreg register`, no mask
given, twice; the seconds are those of both runs, of which the second finds its programs compiled.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from jaxreg.geometry.volume import Volume
from jaxreg.io.nifti import read_displacement, write_volume
from jaxreg.io.points import Landmarks, read_landmarks, write_landmarks
from jaxreg.phantom.pair import phantom_pair

SHAPE, SPACING_MM, SEED = (512, 512, 128), (0.72, 0.72, 2.5), 1000


def make(folder):
    """Writes the pair as scanners do, in whole HU."""
    folder.mkdir(parents=True, exist_ok=True)
    pair = phantom_pair(
        SEED,
        shape=SHAPE,
        spacing_mm=SPACING_MM,
        motion="breath-hold",
        moving_shift_mm=(10.0, -5.0, 15.0),
    )
    for name, image in (("fixed", pair.fixed), ("moving", pair.moving)):
        values = Volume(np.rint(image.data).astype(np.int16), image.affine)
        write_volume(folder / f"{name}.nii.gz", values)
    kind = np.full(len(pair.fixed_landmarks), "vessel")
    points = Landmarks(pair.fixed_landmarks, pair.moving_landmarks, kind)
    write_landmarks(folder / "landmarks.csv", points)


def register(folder, method, out):
    """Runs the command; returns its wall seconds and the greatest memory it held, MiB."""
    files = [str(folder / "fixed.nii.gz"), str(folder / "moving.nii.gz")]
    command = [sys.executable, "-m", "jaxreg", "register", *files, "--method", method, "--out", out]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"{' '.join(command)} failed")
    return time.perf_counter() - began, usage.ru_maxrss / 1024


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("scratch/full_size"))
    parser.add_argument("--methods", nargs="+", default=["classical", "full"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if not (options.folder / "landmarks.csv").exists():
        make(options.folder)
    points = read_landmarks(options.folder / "landmarks.csv")
    rows = []
    print("| method | first run s | second run s | MiB | mean mm | p95 mm | uncertified |")
    print("|---|---|---|---|---|---|---|")
    for method in options.methods:
        with tempfile.TemporaryDirectory() as out:
            runs = [register(options.folder, method, out) for _ in range(2)]
            field = read_displacement(Path(out) / "displacement.nii.gz")
            summary = json.loads((Path(out) / "summary.json").read_text(encoding="utf-8"))
        error_mm = np.linalg.norm(field.transform_points(points.fixed) - points.moving, axis=1)
        row = {
            "method": method,
            "first_run_s": runs[0][0],
            "second_run_s": runs[1][0],
            "peak_mib": max(memory for _, memory in runs),
            "mean_mm": float(error_mm.mean()),
            "p95_mm": float(np.percentile(error_mm, 95)),
            "uncertified_cells": summary["certificate"]["uncertified"],
            "seconds": summary["seconds"],
        }
        rows.append(row)
        print(
            f"| {method} | {row['first_run_s']:.0f} | {row['second_run_s']:.0f} | "
            f"{row['peak_mib']:.0f} | {row['mean_mm']:.2f} | {row['p95_mm']:.2f} | "
            f"{row['uncertified_cells']} |",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

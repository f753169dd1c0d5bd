"""Refinement alone on the development pairs: error of the landmarks and seconds of the CPU.

    python benchmarks/refine.py [FOLDER] [--masks]

FOLDER holds the pairs (default ../shared/data). Lung masks are found automatically, or the supplied
ones are used with --masks. Each pair is refined twice; the second time is without compilation.
"""

import argparse
import csv
import resource
import time
from pathlib import Path

import numpy as np

from jaxreg.classical.affine import prealign
from jaxreg.classical.lungs import lung_mask
from jaxreg.classical.refine import refine
from jaxreg.data.frame import labels_to_frame, lung_frame, to_frame
from jaxreg.data.nifti import read_volume
from jaxreg.data.warping import field_on_grid
from jaxreg.fields.certificate import repair, uncertified_cells
from jaxreg.registration import FRAME

# Best figure of any peer on each pair (PEERS.md): vessels' mean and 95th percentile, random points.
BEST_PEER = {
    "a0001_m3": (0.66, 2.10, 0.95),
    "a0001_m4": (0.62, 1.39, 0.91),
    "cip64_m2": (0.68, 1.37, 0.94),
    "cip64_m5": (0.72, 1.50, 1.09),
}


def landmarks(path):
    """Kinds and RAS millimetres of the fixed and the moving points of a pair."""
    with open(path) as lines:
        rows = list(csv.DictReader(lines))
    flip = np.array([-1.0, -1.0, 1.0])  # LPS on disk
    fixed, moving = (
        np.array([[float(row[f"{image}_{axis}"]) for axis in "xyz"] for row in rows]) * flip
        for image in ("fixed", "moving")
    )
    return np.array([row["kind"] for row in rows]), fixed, moving


def cpu_seconds():
    """User and system seconds of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def run(folder, *, masks):
    """One row of the table."""
    fixed, moving = (read_volume(folder / f"{name}.nii.gz") for name in ("fixed", "moving"))
    if masks:
        lungs = [read_volume(folder / f"{name}_mask.nii.gz") for name in ("fixed", "moving")]
    else:
        lungs = [lung_mask(fixed), lung_mask(moving)]
    matrix = np.asarray(prealign(fixed, moving, *lungs)[0])
    frame = lung_frame(*lungs, matrix, shape=FRAME)
    pair = to_frame(fixed, frame), to_frame(moving, frame, matrix=matrix)
    inside = labels_to_frame(lungs[0], frame) > 0
    for _ in range(2):
        began = time.perf_counter(), cpu_seconds()
        u = np.asarray(refine(*pair, inside, spacing_mm=frame.spacing_mm))
        wall, cpu = time.perf_counter() - began[0], cpu_seconds() - began[1]
    field = field_on_grid(u, frame, fixed.grid, matrix=matrix)
    began = cpu_seconds()
    uncertified = int(uncertified_cells(field.to_voxels()).sum())
    certified = cpu_seconds() - began
    largest_mm = repair(field.to_voxels(), spacing_mm=fixed.spacing_mm)[1].largest_change_mm
    kinds, points, truth = landmarks(folder / "landmarks.csv")
    error = np.linalg.norm(field.transform_points(points) - truth, axis=1)
    vessel, random = error[kinds == "vessel"], error[kinds == "random"]
    figures = vessel.mean(), np.percentile(vessel, 95), random.mean()
    ratios = [value / best for value, best in zip(figures, BEST_PEER[folder.name], strict=True)]
    return (
        f"| {folder.name} | {figures[0]:.2f} ({ratios[0]:.2f}) | {np.median(vessel):.2f} | "
        f"{figures[1]:.2f} ({ratios[1]:.2f}) | {figures[2]:.2f} ({ratios[2]:.2f}) | "
        f"{uncertified} | {largest_mm:.2f} | {cpu:.1f} | {wall:.1f} | {certified:.1f} |"
    )


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path("../shared/data"))
    parser.add_argument("--masks", action="store_true", help="use the supplied lung masks")
    arguments = parser.parse_args()
    print("TRE in mm (ratio to the best peer); seconds of the refinement, without compilation.\n")
    print(
        "| pair | mean | median | p95 | random mean | uncertified | repair mm | CPU s | s | check |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in BEST_PEER:
        print(run(arguments.folder / name, masks=arguments.masks), flush=True)


if __name__ == "__main__":
    main()

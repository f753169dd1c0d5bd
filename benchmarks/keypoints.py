"""Keypoints of pairs whose motion is known: how many, how wrong, how long.

    python benchmarks/keypoints.py [--seeds 30000000 8] [--folder ../shared/data] [--json OUT]

Phantoms from the first seed on (odd ones held their breath, up to 50 mm; inhale and exhale fixed in
turns) are compared with their true field. Development pairs (a folder each with fixed.nii.gz,
moving.nii.gz, landmarks.csv) have a truth at their landmarks alone: these are moved by a thin-plate
spline through the 50 keypoints next to them. No mask is given. Seconds are those of a process that
has found points before, masks and prealignment apart.
"""

import argparse
import itertools
import json
import os
import time
from pathlib import Path

import numpy as np
from scipy.interpolate import RBFInterpolator

from jaxreg.engine.keypoints import find_keypoints_mm
from jaxreg.engine.prealignment import prealign
from jaxreg.io.nifti import read_volume
from jaxreg.io.points import read_landmarks
from jaxreg.lungs.segmentation import lung_mask
from jaxreg.phantom.pair import phantom_pair

PAIRS = ("a0001_m3", "a0001_m4", "cip64_m2", "cip64_m5")
SHAPE = (160, 128, 160)  # of phantoms, which span the chest: voxels of about 2.3 mm


def phantoms(first, count):
    """Name, images, keypoints -> errors in mm."""
    for seed in range(first, first + count):
        kind, phase = ("4dct", "breath-hold")[seed % 2], ("inhale", "exhale")[seed // 2 % 2]
        pair = phantom_pair(seed, shape=SHAPE, motion=kind, fixed_phase=phase)
        field, lungs = pair.displacement, pair.fixed_labels

        def errors(points, field=field, lungs=lungs):
            voxels = np.rint(lungs.voxel_from_world(points.fixed)).astype(int)
            inside = lungs.data[tuple(voxels.T)] > 0
            apart = field.transform_points(points.fixed) - points.moving
            return np.linalg.norm(apart, axis=1)[inside]

        yield f"{kind} {seed}", pair.fixed, pair.moving, errors


def development(folder):
    """The same of the pairs in a folder."""
    for name in PAIRS:
        landmarks = read_landmarks(folder / name / "landmarks.csv", space="LPS")

        def errors(points, landmarks=landmarks):
            motion = points.moving - points.fixed
            spline = RBFInterpolator(points.fixed, motion, neighbors=50, smoothing=1.0)
            apart = landmarks.fixed + spline(landmarks.fixed) - landmarks.moving
            return np.linalg.norm(apart, axis=1)

        images = (read_volume(folder / name / f"{image}.nii.gz") for image in ("fixed", "moving"))
        yield name, *images, errors


def measure(name, fixed, moving, errors):
    """Figures of one pair."""
    began = time.perf_counter()
    masks = lung_mask(fixed), lung_mask(moving)
    matrix, _ = prealign(fixed, moving, *masks)
    aligned = time.perf_counter()
    points = find_keypoints_mm(fixed, moving, *masks, matrix)
    ended = time.perf_counter()
    motion = np.linalg.norm(points.moving - points.fixed, axis=1)
    error = errors(points)
    return {
        "pair": name,
        "keypoints": len(points.fixed),
        "largest_motion_mm": motion.max(),
        "median_mm": np.median(error),
        "p95_mm": np.percentile(error, 95),
        "above_5_mm_percent": 100 * np.mean(error > 5.0),
        "masks_and_prealignment_s": aligned - began,
        "keypoints_s": ended - aligned,
    }


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description="Keypoints of pairs whose motion is known.")
    shared = Path(os.environ.get("JAXREG_SHARED", "../shared"))
    parser.add_argument("--seeds", nargs=2, type=int, default=(30_000_000, 8), help="first, count")
    parser.add_argument("--folder", type=Path, default=shared / "data")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    measure(*next(phantoms(0, 1)))  # compiles
    rows = []
    print("| pair | keypoints | largest motion mm | median mm | p95 mm | > 5 mm % | before s | s |")
    print("|---|---|---|---|---|---|---|---|")
    pairs = development(options.folder) if options.folder.is_dir() else ()
    for case in itertools.chain(phantoms(*options.seeds), pairs):
        row = measure(*case)
        rows.append(row)
        print(
            f"| {row['pair']} | {row['keypoints']} | {row['largest_motion_mm']:.0f} | "
            f"{row['median_mm']:.2f} | {row['p95_mm']:.2f} | {row['above_5_mm_percent']:.2f} | "
            f"{row['masks_and_prealignment_s']:.1f} | {row['keypoints_s']:.1f} |",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Keypoints of pairs whose motion is known: how many, how wrong, how long.

    python benchmarks/keypoints.py [--seeds 30000000 8] [--folder ../shared/data] [--json OUT]

Phantoms from the first seed on (odd ones in breath-holds, up to 50 mm; inhale and exhale fixed in
turns) are compared with their true field. Development pairs (a folder each with fixed.nii.gz,
moving.nii.gz, landmarks.csv) have a ground truth at their landmarks alone: these are moved by a
thin-plate spline through the 50 keypoints next to them. No mask is given. Seconds are those of a
process that has found points before, masks, prealignment and lung grid apart.
"""

import itertools
import os
import time
from pathlib import Path

import numpy as np
from harness import development_pairs, lengths, parser, print_rows
from scipy.interpolate import RBFInterpolator

from jaxreg.phantom.pair import phantom_pair
from jaxreg.pipeline.align import align
from jaxreg.pipeline.keypoints import pair_keypoints

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
            return lengths(field.transform_points(points.fixed) - points.moving)[inside]

        yield f"{kind} {seed}", pair.fixed, pair.moving, errors


def development(folder):
    """The same of the pairs in a folder."""
    for pair, fixed, moving, landmarks in development_pairs(folder):

        def errors(points, landmarks=landmarks):
            motion = points.moving - points.fixed
            spline = RBFInterpolator(points.fixed, motion, neighbors=50, smoothing=1.0)
            return lengths(landmarks.fixed + spline(landmarks.fixed) - landmarks.moving)

        yield pair.name, fixed, moving, errors


def measure(name, fixed, moving, errors):
    """Figures of one pair."""
    began = time.perf_counter()
    pair = align(fixed, moving)
    aligned = time.perf_counter()
    points = pair_keypoints(pair)
    ended = time.perf_counter()
    error = errors(points)
    return {
        "pair": name,
        "keypoints": len(points.fixed),
        "largest motion mm": lengths(points.moving - points.fixed).max(),
        "median mm": np.median(error),
        "p95": np.percentile(error, 95),
        "> 5 mm %": 100 * np.mean(error > 5.0),
        "masks, prealignment and lung grid s": aligned - began,
        "keypoints s": ended - aligned,
    }


def main():
    """Prints the table."""
    arguments = parser(__doc__)
    shared = Path(os.environ.get("JAXREG_SHARED", "../shared"))
    seeds = {"nargs": 2, "type": int, "default": (30_000_000, 8)}
    arguments.add_argument("--seeds", help="first, count", **seeds)
    arguments.add_argument("--folder", type=Path, default=shared / "data")
    options = arguments.parse_args()
    measure(*next(phantoms(0, 1)))  # compiles
    cases = itertools.chain(phantoms(*options.seeds), development(options.folder))
    print_rows((measure(*case) for case in cases), options)


if __name__ == "__main__":
    main()

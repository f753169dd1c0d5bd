"""What the inverse-consistency error says of the true error, on phantom pairs.

    python benchmarks/uncertainty.py [--first 1000] [--count 6] [--method classical] [--json OUT]

Pairs as in benchmarks/phantom.py. Of every lung voxel in 50 the true error and the error of going
there and back; Spearman's rank correlation of both, and their means in tenths of the voxels, the
most consistent first.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import scipy.stats
from phantom import draw

from jaxreg.pipeline.registration import register_volumes


def run(pair, method):
    """Inverse-consistency error and true error, mm, of one lung voxel in 50."""
    result = register_volumes(pair.fixed, pair.moving, method=method, uncertainty=True)
    lung = np.flatnonzero(pair.fixed_labels.data)[::50]
    apart = (result.displacement.data - pair.displacement.data).reshape(-1, 3)[lung]
    return result.uncertainty.data.ravel()[lung], np.linalg.norm(apart, axis=1)


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--first", type=int, default=1000)
    parser.add_argument("--count", type=int, default=6)
    parser.add_argument("--method", default="classical", choices=("cascade", "classical", "full"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows, doubts, errors = [], [], []
    print("| seed | motion mm | rank correlation | there and back, mean mm | true, mean mm |")
    print("|---|---|---|---|---|")
    for i in range(options.count):
        pair, about = draw(options.first, i, options.count)
        doubt, error = run(pair, options.method)
        rank = float(scipy.stats.spearmanr(doubt, error)[0])
        rows.append(about | {"rank": rank, "doubt_mm": doubt.mean(), "error_mm": error.mean()})
        print(
            f"| {about['seed']} | {about['motion_mm']:.0f} | {rank:.2f} | {doubt.mean():.2f} | "
            f"{error.mean():.2f} |",
            flush=True,
        )
        doubts.append(doubt)
        errors.append(error)
    doubt, error = np.concatenate(doubts), np.concatenate(errors)
    print(f"all voxels: rank correlation {scipy.stats.spearmanr(doubt, error)[0]:.2f}")
    tenths = np.array_split(np.argsort(doubt), 10)
    for name, values in (("there and back", doubt), ("true error", error)):
        print(f"{name}, by tenths: " + " ".join(f"{values[t].mean():.2f}" for t in tenths))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2, default=float) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

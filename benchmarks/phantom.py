"""Phantom pairs from quiet respiration to deep breath-holds: is there a pair that fails?

    python benchmarks/phantom.py [--first 40000000] [--count 20] [--methods classical full]
                                 [--json OUT]

Pair i of n has seed first + i and a greatest motion of 10 + 40 i / (n - 1) mm; grids, the phase of
the fixed image and the shift of the patient between the scans change from pair to pair. Errors are
those of the vessel branchings, and of one lung voxel in 50. A pair fails where the 95th percentile
of the branchings' errors exceeds 5 mm. With --json a run that was stopped goes on where it was.
"""

import json
import time

import numpy as np
from harness import lengths, parser, print_rows, size

from jaxreg.config import METHODS
from jaxreg.phantom.pair import phantom_pair
from jaxreg.pipeline.registration import register_volumes

FAILURE_MM = 5.0
GRIDS = ((160, 128, 160), (224, 176, 96), (128, 104, 144), (192, 160, 64))  # spanning the chest


def synthesise(first, i, count):
    """The pair and what it is."""
    motion_mm = 10.0 + 40.0 * i / max(count - 1, 1)
    grid, phase = GRIDS[i % len(GRIDS)], ("inhale", "exhale")[(i // 2) % 2]
    shift_mm = np.random.default_rng(first + i).uniform(-30.0, 30.0, 3)
    pair = phantom_pair(
        first + i, shape=grid, motion=motion_mm, fixed_phase=phase, moving_shift_mm=shift_mm
    )
    return pair, {"seed": first + i, "motion mm": motion_mm, "grid": size(grid), "fixed": phase}


def measure(pair, method):
    """Figures of one registration."""
    began = time.perf_counter()
    result = register_volumes(pair.fixed, pair.moving, method=method)
    seconds = time.perf_counter() - began
    error_mm = lengths(result.map_points(pair.fixed_landmarks) - pair.moving_landmarks)
    lung = np.flatnonzero(pair.fixed_labels.data)[::50]
    residual = (result.displacement.data - pair.displacement.data).reshape(-1, 3)[lung]
    lung_mm = lengths(residual)
    return {
        "method": method,
        "initial mm": lengths(pair.fixed_landmarks - pair.moving_landmarks).mean(),
        "mean mm": error_mm.mean(),
        "p95": np.percentile(error_mm, 95),
        "lung mean mm": lung_mm.mean(),
        "lung p95": np.percentile(lung_mm, 95),
        "folds %": 100 * result.summary["folds_in_lungs"],
        "s": seconds,
    }


def rows(options, done):
    """Yields a row a pair and method, those that are done as they are."""
    for i in range(options.count):
        seed = options.first + i
        missing = [method for method in options.methods if (seed, method) not in done]
        if missing:
            pair, about = synthesise(options.first, i, options.count)
            done |= {(seed, method): about | measure(pair, method) for method in missing}
        yield from (done[seed, method] for method in options.methods)


def main():
    """Prints the table and how many pairs failed."""
    arguments = parser(__doc__)
    arguments.add_argument("--first", type=int, default=40_000_000)
    arguments.add_argument("--count", type=int, default=20)
    arguments.add_argument("--methods", nargs="+", default=["classical"], choices=METHODS)
    options = arguments.parse_args()
    done = {}
    if options.json and options.json.exists():
        found = json.loads(options.json.read_text(encoding="utf-8"))
        done = {(row["seed"], row["method"]): row for row in found["rows"]}
    table = print_rows(rows(options, done), options)
    for method in options.methods:
        its = [row for row in table if row["method"] == method]
        failed = [row["seed"] for row in its if row["p95"] > FAILURE_MM]
        mean = np.mean([row["mean mm"] for row in its])
        print(f"{method}: mean {mean:.2f} mm over {len(its)} pairs, failed: {failed or 'none'}")


if __name__ == "__main__":
    main()

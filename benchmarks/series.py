"""Generated breaths: error of trajectories over all phases, beside that of single pairs; seconds.

    python benchmarks/series.py [--seeds 10] [--phases 10] [--motion 4dct] [--json OUT]

Each respiratory cycle is registered to its first phase. "Pairs" are the same phases, each
registered to the first by `register_volumes`. Errors are at vessel branchings, mm, over all
phases but the reference; "folds" counts voxels of the lungs over all phases. Seconds are those of
`register_series`, and of measuring and writing all files, after a first one that compiles and is
not shown.
"""

import tempfile
import time

import numpy as np
from harness import lengths, parser, print_rows

from jaxreg.phantom.series import phantom_series
from jaxreg.pipeline.registration import register_volumes
from jaxreg.pipeline.series import register_series

SEED = 30_000_000


def measure(seed, phases, motion):
    """Figures of one respiratory cycle."""
    series = phantom_series(SEED + seed, phases=phases, motion=motion)
    points = series.trajectories
    began = time.perf_counter()
    result = register_series(series.phases)
    registered = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        summary = result.save(folder)
    saved = time.perf_counter()
    errors = lengths(result.trajectories(points[0]) - points)[1:]
    alone = np.stack(
        [
            lengths(register_volumes(series.phases[0], phase).map_points(points[0]) - truth)
            for phase, truth in zip(series.phases[1:], points[1:], strict=True)
        ]
    )
    return {
        "seed": seed,
        "before": lengths(points[1:] - points[0]).mean(),
        "series": errors.mean(),
        "95th percentile": np.percentile(errors, 95),
        "pairs": alone.mean(),
        "pairs, 95th percentile": np.percentile(alone, 95),
        "ratio": errors.mean() / alone.mean(),
        "folds": sum(row.get("folds_in_lungs", 0.0) for row in summary["phases"]),
        "warnings": len(summary["warnings"]),
        "s to register": registered - began,
        "s to measure and write": saved - registered,
    }


def main():
    """Prints the table."""
    options = parser(__doc__)
    options.add_argument("--seeds", type=int, default=10)
    options.add_argument("--phases", type=int, default=10)
    options.add_argument("--motion", default="4dct")
    chosen = options.parse_args()
    named = chosen.motion in ("4dct", "breath-hold")
    motion = chosen.motion if named else float(chosen.motion)
    register_series(phantom_series(SEED, phases=2).phases)  # compiles
    rows = (measure(seed, chosen.phases, motion) for seed in range(1, chosen.seeds + 1))
    print_rows(rows, chosen)


if __name__ == "__main__":
    main()

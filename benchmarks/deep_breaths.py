"""Pairs that move as far as breath-holds do after the best affine map: does a large breath fail?

    python benchmarks/deep_breaths.py [--first 45000000] [--count 8] [--json OUT]

Generated subjects whose motion is that of the training stream (`jaxreg.training.synthetic`), drawn
at 8 to 11 mm root mean square after the best affine map and made smaller where it would fold. In
four COPDgene cases it is 3.4 to 9.6 mm. The two scans differ in kernel, contrast and noise, the
lungs slide along the wall in half of the pairs, and lung masks are given. Errors are those of lung
points that both images show. Each pair is registered three times: with the default settings, with
one weight of curvature for all pairs (`optimiser.balance=0`), and by the cascade that ships.
"""

import dataclasses
import tempfile
from pathlib import Path

import jax
import numpy as np
from harness import lengths, parser, print_rows
from synthetic_motion import figures

from jaxreg.config import RegistrationConfig, SyntheticConfig, with_method
from jaxreg.geometry.volume import Volume
from jaxreg.pipeline.registration import register_volumes
from jaxreg.training.anatomies import load_anatomies, prepare_phantom_anatomies
from jaxreg.training.synthetic import draw

GRID = (160, 128, 160)
FAILURE_MM = 5.0
MOTION = SyntheticConfig(
    residual_mm=(8.0, 11.0),
    identical=0.0,
    binning=0.0,
    cut=0.0,
    lesion=0.0,
    margin_mm=(15.0, 30.0),
    noise_hu=25.0,
    steepest=1.0,
)


def synthesise(anatomies, seed):
    """Both images, both masks, and points (N, 3) of the fixed and the moving image in mm."""
    drawn = draw(jax.random.key(seed), anatomies, grid=GRID, level=1, config=MOTION)
    pair = jax.device_get(drawn)
    spacing_mm = np.asarray(pair.spacing_mm, float)
    affine = np.diag([*spacing_mm, 1.0])
    lungs = (pair.mask > 0.5, pair.moving_labels.sum(axis=-1) > 0.5)
    arrays = (pair.fixed, pair.moving, *(mask.astype(np.int16) for mask in lungs))
    shown = pair.keypoint_weights > 0
    points = (pair.fixed_keypoints, pair.moving_keypoints)
    return [Volume(a, affine) for a in arrays], [p[shown] * spacing_mm for p in points]


def settings():
    """The default settings, those with one weight for all pairs, and the cascade."""
    default = RegistrationConfig()
    same = dataclasses.replace(default.optimiser, balance=0.0)
    one_weight = dataclasses.replace(default, optimiser=same)
    return {"": default, "one weight, ": one_weight, "cascade, ": with_method(default, "cascade")}


def rows(first, count):
    """Yields a row a pair."""
    with tempfile.TemporaryDirectory() as folder:
        files = prepare_phantom_anatomies(Path(folder), range(first, first + count), grid=GRID)
        anatomies = load_anatomies(files, level=1)
    for seed in range(first, first + count):
        (fixed, moving, fixed_mask, moving_mask), (p, q) = synthesise(anatomies, seed)
        rms, p95, cubic = figures(q, p - q)
        row = {"seed": seed, "after affine, RMS mm": rms, "p95 mm": p95, "by a cubic": cubic}
        for name, config in settings().items():
            result = register_volumes(
                fixed, moving, fixed_mask=fixed_mask, moving_mask=moving_mask, config=config
            )
            error_mm = lengths(result.map_points(p) - q)
            row[f"{name}mean"] = error_mm.mean()
            row[f"{name}p95"] = np.percentile(error_mm, 95)
            row[f"{name}folds %"] = 100 * result.summary["folds_in_lungs"]
        yield row


def main():
    """Prints the table, and how many pairs failed."""
    arguments = parser(__doc__)
    arguments.add_argument("--first", type=int, default=45_000_000)
    arguments.add_argument("--count", type=int, default=8)
    options = arguments.parse_args()
    table = print_rows(rows(options.first, options.count), options)
    failed = [row["seed"] for row in table if row["p95"] > FAILURE_MM]
    print(f"failed: {failed or 'none'}")


if __name__ == "__main__":
    main()

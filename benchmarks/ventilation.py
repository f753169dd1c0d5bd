"""Ventilation measures of registered phantom pairs against their true volume change.

    python benchmarks/ventilation.py [--first 41000000] [--count 6] [--smoothing 0 5 15 30]
                                     [--method classical] [--json OUT]

Pair i of n has seed first + i and a greatest motion of 12 + 18 i / (n - 1) mm; fixed and moving
image take turns in being the inhaled one. Masks are found, the field is that of the registration.
Of every voxel that was measured: Spearman's rank correlation of each measure with the true change
of volume, (V_in - V_ex) / V_ex by the true field; of the two measures of volume the mean error,
ml/ml; and the mean error of the change of volume of the six thirds of the lungs, ml, which does
not depend on the smoothing. The last rows are the means over the pairs.
"""

import numpy as np
import scipy.stats
from harness import parser, print_rows

from jaxreg.config import METHODS, VentilationConfig
from jaxreg.geometry.resampling import field_determinant
from jaxreg.metrics.ventilation import UNITS
from jaxreg.phantom.pair import phantom_pair
from jaxreg.pipeline.registered import registered_pair
from jaxreg.pipeline.registration import register_volumes
from jaxreg.pipeline.ventilation import ventilation

SHAPE = (144, 116, 132)  # spans the chest in voxels of about 2.5 mm


def measure(seed, motion_mm, phase, options):
    """Yields a row of the table for each smoothing."""
    pair = phantom_pair(seed, shape=SHAPE, motion=motion_mm, fixed_phase=phase)
    registered = registered_pair(register_volumes(pair.fixed, pair.moving, method=options.method))
    growth = field_determinant(pair.displacement).data
    voxel_ml = abs(np.linalg.det(pair.fixed.affine[:3, :3])) / 1e3
    for smoothing_mm in options.smoothing:
        found = ventilation(registered, config=VentilationConfig(smoothing_mm=smoothing_mm))
        measured = found.regions.data > 0
        true = (1 / growth if phase == "inhale" else growth)[measured] - 1
        values = {name: found.maps[name].data[measured] for name in UNITS}
        row = {"seed": seed, "motion mm": motion_mm, "fixed": phase, "smoothing mm": smoothing_mm}
        row |= {"true mean": float(true.mean()), "true sd": float(true.std())}
        for name in UNITS:
            row[f"rank correlation, {name}"] = float(scipy.stats.spearmanr(values[name], true)[0])
        for name in ("volume_jacobian", "volume_hu"):
            row[f"mean error, {name}"] = float(np.abs(values[name] - true).mean())
        change = (registered.determinant.data - growth) * voxel_ml
        ml = [change[found.regions.data == third].sum() for third in range(1, 7)]
        yield row | {"thirds, mean error ml": float(np.abs(ml).mean())}


def rows(options):
    """Yields rows of pairs, and their means."""
    done = []
    for i in range(options.count):
        motion_mm = 12.0 + 18.0 * i / max(options.count - 1, 1)
        phase = ("inhale", "exhale")[i % 2]
        for row in measure(options.first + i, motion_mm, phase, options):
            done.append(row)
            yield row
    for smoothing_mm in options.smoothing:
        its = [row for row in done if row["smoothing mm"] == smoothing_mm]
        means = {name: float(np.mean([row[name] for row in its])) for name in list(its[0])[3:]}
        yield {"seed": "mean", "motion mm": "", "fixed": "", **means}


def main():
    """Prints the table."""
    arguments = parser(__doc__)
    arguments.add_argument("--first", type=int, default=41_000_000)
    arguments.add_argument("--count", type=int, default=6)
    arguments.add_argument("--smoothing", type=float, nargs="+", default=[0.0, 5.0, 15.0, 30.0])
    arguments.add_argument("--method", default="classical", choices=METHODS)
    options = arguments.parse_args()
    print_rows(rows(options), options)


if __name__ == "__main__":
    main()

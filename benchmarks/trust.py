"""Pairs that are wrong, in all or in part, and pairs that are right but hard: what is said of them.

    python benchmarks/trust.py [FOLDER] [--phantoms 4] [--half 1] [--fit] [--json OUT]

FOLDER holds the development pairs (default ../shared/data). Every kind of `trust_pairs.py` is tried
on every second anatomy, in turn. Thresholds and the coefficients of the quality were chosen on half
0 of kinds and anatomies; half 1 is the other one. A row tells the warnings, and errors in mm: of
the points that the moving image shows (95th percentile), and of those that it does not, beside what
the linear prealignment leaves there. Below the table: how many wrong pairs are warned of, how many
right ones; Spearman's coefficient of quality and error, and the share of points within 2 mm by
quality. --fit fits the coefficients to the points of the pairs that were run.
"""

import functools
import zlib

import numpy as np
from harness import development_parser, lengths, print_rows
from scipy import ndimage, optimize, stats
from trust_pairs import PARTLY_WRONG, RIGHT, WRONG, other_patient, scenes

from jaxreg.config import RegistrationConfig
from jaxreg.geometry.grid import transform
from jaxreg.ops.deformation import transform_points
from jaxreg.pipeline.align import align
from jaxreg.pipeline.assess import agreement_of, assess
from jaxreg.pipeline.stages import optimiser_stage

CONFIG = RegistrationConfig()
NEAR_MM = 2.0


def half_of(word):
    """0 or 1, the same for ever."""
    return zlib.crc32(word.encode()) % 2


def at(volume, points):
    """Values of a volume at world points, linear."""
    places = volume.voxel_from_world(points).T
    return ndimage.map_coordinates(volume.data, places, order=1, mode="nearest", output=np.float64)


def inputs_of_quality(pair, u, assessment, scene):
    """What the logistic model of the quality is made of, at the points of a scene, (N, 3)."""
    measures = agreement_of(pair, u, config=CONFIG)
    places = ((pair.grid.voxel_from_world(scene.fixed_points) - 0.5) / 2).T
    sampled = [ndimage.map_coordinates(np.asarray(m), places, order=1) for m in measures]
    correlation, _, shown, log_volume = sampled
    lung = {name: values["agreement"] for name, values in assessment.lungs.items()}
    of_lung = np.where(scene.left, lung.get("left", 0.0), lung.get("right", 0.0))
    return np.stack([shown * np.maximum(correlation, 0), shown * of_lung, log_volume], axis=1)


def measure(kind, scene, points):
    """Figures of one case; its points are added to `points`."""
    wrong = kind not in RIGHT
    row = {"anatomy": scene.anatomy, "kind": kind, "wrong": "yes" if wrong else "no"}
    try:
        pair = align(scene.fixed, scene.moving, config=CONFIG)
    except ValueError as error:
        return row | {"warnings": f"error: {str(error)[:40]}"}
    u = optimiser_stage(pair, None, CONFIG.optimiser)
    assessment = assess(scene.fixed, scene.moving, pair, u, config=CONFIG)
    codes = [f"{w.code} {w.lung or ''}".strip() for w in assessment.warnings]
    start = pair.grid.voxel_from_world(scene.fixed_points)
    ends = [start, np.asarray(transform_points(u, start.astype(np.float32)))]
    affine, error = (
        lengths(transform(pair.matrix, pair.grid.world_from_voxel(e)) - scene.moving_points)
        for e in ends
    )
    known = not wrong or kind in PARTLY_WRONG
    error = error if known else np.full(len(error), np.inf)
    points.append(
        (
            at(assessment.quality, scene.fixed_points),
            error,
            inputs_of_quality(pair, u, assessment, scene),
        )
    )
    shown, hidden = scene.shown & known, ~scene.shown & known
    percentile = functools.partial(np.percentile, q=95)
    return row | {
        "warnings": ", ".join(codes),
        "shown p95 mm": percentile(error[shown]) if shown.any() else None,
        "hidden mm": error[hidden].mean() if hidden.any() else None,
        "affine there": affine[hidden].mean() if hidden.any() else None,
        "quality": np.mean([lung["quality"] for lung in assessment.lungs.values()]),
    }


def cases(folder, phantoms, half):
    """Yields kind and scene: each kind on every second anatomy, from its half on."""
    anatomies = list(scenes(folder, phantoms))
    for index, (kind, change) in enumerate({**WRONG, **RIGHT, "other patient": None}.items()):
        for place, scene in enumerate(anatomies):
            if (place + index) % 2 or half not in (None, half_of(kind + scene.anatomy)):
                continue
            if change is not None:
                yield kind, change(scene)
            else:
                yield kind, other_patient(scene, _somebody_else(scene, anatomies))


def _somebody_else(scene, anatomies):
    person = scene.anatomy.split("_")[0]
    return next(other for other in anatomies[::-1] if other.anatomy.split("_")[0] != person)


def fitted(inputs, within):
    """Intercept and coefficients of the logistic model; that of |log det| no less than -4.

    Free it is -17 on these pairs, which move little beside their linear part: deep breaths would
    be called wrong.
    """
    design = np.column_stack([np.ones(len(inputs)), inputs])

    def loss(b):
        z = design @ b
        slope = design.T @ (1 / (1 + np.exp(-z)) - within) / len(z)
        return np.mean(np.logaddexp(0, z) - within * z), slope

    bounds = [(None, None), (0, None), (0, None), (-4, 0)]
    return optimize.minimize(loss, np.zeros(4), jac=True, method="L-BFGS-B", bounds=bounds).x


def tell_quality(points, fit):
    """Prints what the quality says of the error."""
    quality, error, inputs = (np.concatenate(part) for part in zip(*points, strict=True))
    finite = np.isfinite(error)
    largest = np.where(finite, error, 1e3)
    print(f"\n{len(quality)} points, Spearman {-stats.spearmanr(quality, largest)[0]:.2f}", end="")
    some = -stats.spearmanr(quality[finite], error[finite])[0]
    print(f"; of pairs of one person alone {some:.2f}")
    for low, high in ((0, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 0.9), (0.9, 1.01)):
        chosen = (quality >= low) & (quality < high)
        if chosen.any():
            near = 100 * np.mean(error[chosen] < NEAR_MM)
            share = 100 * chosen.mean()
            print(f"quality {low:.1f} to {min(high, 1):.1f}: {share:.0f} % of points, ", end="")
            print(f"{near:.1f} % of them within {NEAR_MM:g} mm")
    if fit:
        print("coefficients:", np.round(fitted(inputs, error < NEAR_MM), 1).tolist())


def main():
    """Prints the table and the figures below it."""
    parser = development_parser(__doc__)
    parser.add_argument("--phantoms", type=int, default=4, help="generated anatomies")
    parser.add_argument("--half", type=int, choices=(0, 1), help="of kinds and anatomies; all")
    parser.add_argument("--fit", action="store_true", help="fit the coefficients of the quality")
    options = parser.parse_args()
    points = []
    chosen = cases(options.folder, options.phantoms, options.half)
    rows = print_rows((measure(kind, scene, points) for kind, scene in chosen), options.json)
    for word in ("yes", "no"):
        those = [row for row in rows if row["wrong"] == word]
        warned = sum(bool(row["warnings"]) for row in those)
        kinds = len({row["kind"] for row in those})
        name = "wrong" if word == "yes" else "right"
        print(f"{name}: {warned} of {len(those)} pairs of {kinds} kinds warned of")
    tell_quality(points, options.fit)


if __name__ == "__main__":
    main()

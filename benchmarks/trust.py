"""Pairs that are wrong, in all or in part, and pairs that are right but hard: what is said of them.

    python benchmarks/trust.py [FOLDER] [--chosen] [--fit] [--json OUT]

FOLDER holds the development pairs (default ../shared/data). Every kind of `trust_pairs.py` is tried
on every second anatomy, in turn: kinds and anatomies on which nothing was chosen, or with --chosen
those on which the thresholds and the coefficients of the quality were. A row has the warnings,
and errors in mm: of the points that the moving image shows (95th percentile), and of those that it
does not, beside what the linear prealignment leaves there. Below the table: how many wrong pairs
are warned of, how many right ones; Spearman's coefficient of quality and error, and the fraction of
points within 2 mm by quality. --fit fits the coefficients to the points of the pairs that were run.
"""

import functools

import numpy as np
from harness import development_parser, keep, lengths, print_rows
from scipy import ndimage, optimize, stats
from trust_pairs import KINDS, other_patient, scenes

from jaxreg.config import RegistrationConfig
from jaxreg.geometry.grid import transform
from jaxreg.ops.deformation import transform_points
from jaxreg.pipeline.align import align
from jaxreg.pipeline.assess import assess
from jaxreg.pipeline.comparison import agreement_of, compared
from jaxreg.pipeline.stages import optimiser_stage
from jaxreg.trust.agreement import Agreement
from jaxreg.trust.quality import model_inputs

CONFIG = RegistrationConfig()
NEAR_MM = 2.0


def at(volume, points):
    """Values of a volume at world points, linear."""
    places = volume.voxel_from_world(points).T
    return ndimage.map_coordinates(volume.data, places, order=1, mode="nearest", output=np.float64)


def inputs_of_quality(pair, u, assessment, scene):
    """What the logistic model of the quality is made of, at the points of a scene, (N, 3)."""
    seen = compared(pair, np.asarray(u), config=CONFIG)
    images = (*agreement_of(seen, config=CONFIG), seen.log_volume)
    places = seen.half.voxel_from_world(scene.fixed_points).T
    *measures, log_volume = (
        ndimage.map_coordinates(np.asarray(m), places, order=1, mode="nearest") for m in images
    )
    lung = {name: values["agreement"] for name, values in assessment.lungs.items()}
    of_lung = np.where(scene.left, lung.get("left", 0.0), lung.get("right", 0.0))
    return np.stack(model_inputs(Agreement(*measures), log_volume, of_lung), axis=1)


def measure(name, scene, points):
    """Figures of one case; its points are added to `points`."""
    wrong = KINDS[name].wrong
    row = {"anatomy": scene.anatomy, "kind": name, "wrong": wrong or "no"}
    try:
        pair = align(scene.fixed, scene.moving, config=CONFIG)
    except ValueError as error:
        return row | {"warnings": f"error: {str(error)[:40]}"}
    u = optimiser_stage(pair, None, CONFIG.optimiser)
    assessment = assess(pair, u, config=CONFIG)
    codes = [f"{w.code} {w.lung or ''}".strip() for w in assessment.warnings]
    start = pair.grid.voxel_from_world(scene.fixed_points)
    ends = [start, np.asarray(transform_points(u, start.astype(np.float32)))]
    affine, error = (
        lengths(transform(pair.matrix, pair.grid.world_from_voxel(e)) - scene.moving_points)
        for e in ends
    )
    known = wrong != "all"
    error = error if known else np.full(len(error), np.inf)
    points.append(
        (
            at(assessment.quality, scene.fixed_points),
            error,
            inputs_of_quality(pair, u, assessment, scene),
            not wrong,
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


def cases(folder, chosen):
    """Yields the name of a kind and a scene: each kind on every second anatomy."""
    anatomies = list(scenes(folder, held_out=not chosen))
    # of other patients there are as many kinds as there are pairs of them
    names = [name for name, kind in KINDS.items() if kind.chosen == chosen or not kind.change]
    for index, name in enumerate(names):
        change = KINDS[name].change
        for place, scene in enumerate(anatomies):
            if change is None:
                yield name, other_patient(scene, _somebody_else(scene, anatomies))
            elif (place + index) % 2 == 0:
                yield name, change(scene)


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

    bounds = [(None, None), (0, None), (-4, 0), (None, 0)]
    return optimize.minimize(loss, np.zeros(4), jac=True, method="L-BFGS-B", bounds=bounds).x


def joined(points):
    """Quality, error in mm and inputs of the quality at the points of all pairs."""
    return [np.concatenate(part) for part in list(zip(*points, strict=True))[:3]]


def figures_of_quality(points):
    """What the quality says of the error: Spearman's coefficients, and points by quality."""
    quality, error, _ = joined(points)
    finite = np.isfinite(error)
    largest = np.where(finite, error, 1e3)
    bins = []
    for low, high in ((0, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 0.9), (0.9, 1.01)):
        chosen = (quality >= low) & (quality < high)
        if chosen.any():
            row = {"quality": f"{low:.1f} to {min(high, 1):.1f}", "points %": 100 * chosen.mean()}
            row[f"of them within {NEAR_MM:g} mm, %"] = 100 * np.mean(error[chosen] < NEAR_MM)
            bins.append(row)
    return {
        "points": len(quality),
        "correlation": -stats.spearmanr(quality, largest)[0],
        "correlation, one person": -stats.spearmanr(quality[finite], error[finite])[0],
        "correlation, within right pairs": np.median(
            [-stats.spearmanr(q, e)[0] for q, e, _, is_right in points if is_right]
        ),
        "by quality": bins,
    }


def counts_of_warnings(rows):
    """How many wrong and how many right pairs are warned of, or refused with an error."""
    found = []
    for word in ("wrong", "right"):
        those = [row for row in rows if (row["wrong"] == "no") == (word == "right")]
        refused = sum(row["warnings"].startswith("error") for row in those)
        found.append(
            {
                "pairs": word,
                "kinds": len({row["kind"] for row in those}),
                "of them": len(those),
                "warned of": sum(bool(row["warnings"]) for row in those) - refused,
                "refused": refused,
            }
        )
    return found


def main():
    """Prints the table and the figures below it."""
    parser = development_parser(__doc__)
    parser.add_argument("--chosen", action="store_true", help="what the thresholds are from")
    parser.add_argument("--fit", action="store_true", help="fit the coefficients of the quality")
    options = parser.parse_args()
    points = []
    todo = cases(options.folder, options.chosen)
    rows = print_rows((measure(name, scene, points) for name, scene in todo), options)
    print()
    counts = print_rows(counts_of_warnings(rows))
    quality = figures_of_quality(points)
    print(f"\n{quality['points']} points; Spearman's coefficient of quality and error ", end="")
    print(f"{quality['correlation']:.2f}, ", end="")
    print(f"without pairs of two persons {quality['correlation, one person']:.2f}, ", end="")
    print(f"within right pairs {quality['correlation, within right pairs']:.2f} (median)\n")
    print_rows(quality["by quality"])
    keep(options, rows, counts=counts, quality=quality)
    if options.fit:
        _, error, inputs = joined(points)
        print("coefficients:", np.round(fitted(inputs, error < NEAR_MM), 1).tolist())


if __name__ == "__main__":
    main()

"""What each level of trained networks adds: errors after the levels L..l, beside no network at all.

    python benchmarks/levels.py [FOLDER] [--weights paper] [--phantoms 6] [--json OUT]

Development pairs of FOLDER (as in benchmarks/pairs.py) and generated pairs that nothing was trained
on, of 10 to 50 mm of motion. Each is aligned once, no mask given. Then come the affine map alone,
the trained levels from the coarsest down to each, and all of them with their last layer set to zero
("untrained"). Errors in mm are those of all landmarks; folds those of the lung grid by central
differences.
"""

import time

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from harness import development_pairs, development_parser, lengths, print_rows
from phantom import synthesise

from jaxreg.config import RegistrationConfig
from jaxreg.geometry.lung_grid import points_on_grid
from jaxreg.geometry.volume import transform
from jaxreg.network.weights import load_named
from jaxreg.ops.deformation import transform_points
from jaxreg.ops.jacobian import fold_count, jacobian_determinant
from jaxreg.pipeline.align import align
from jaxreg.pipeline.stages import cascade_stage

FIRST = 50_000_000  # seeds of generated pairs that no training has


def cases(options):
    """Yields the set and name of a pair, its images, its fixed and its moving landmarks."""
    for folder, fixed, moving, points in development_pairs(options.folder):
        yield "development", folder.name, fixed, moving, points.fixed, points.moving
    for i in range(options.phantoms):
        pair, about = synthesise(FIRST, i, options.phantoms)
        name = f"{about['seed']}, {about['motion mm']:.0f} mm"
        landmarks = (pair.fixed_landmarks, pair.moving_landmarks)
        yield "generated", name, pair.fixed, pair.moving, *landmarks


def variants(params):
    """Name and parameters of each variant; None is the affine map alone."""
    order = sorted(params, reverse=True)
    heads = flatten_dict(params)
    untrained = {k: 0.0 * v if "head" in k else v for k, v in heads.items()}
    yield "affine", None
    yield "untrained", unflatten_dict(untrained)
    for count in range(1, len(order) + 1):
        yield (
            f"levels {', '.join(n[-1] for n in order[:count])}",
            {n: params[n] for n in order[:count]},
        )


def measure(pair, params, network, fixed_mm, moving_mm):
    """Error at the landmarks, folds and seconds of the networks of one variant."""
    began = time.perf_counter()
    u = np.zeros((*pair.grid.shape, 3), np.float32)
    if params is not None:
        u = np.asarray(cascade_stage(pair, params, network, RegistrationConfig().optimiser))
    seconds = time.perf_counter() - began
    voxels = np.asarray(transform_points(u, points_on_grid(fixed_mm, pair.grid)))
    found_mm = transform(pair.matrix, pair.grid.world_from_voxel(voxels))
    error_mm = lengths(found_mm - moving_mm)
    lungs = pair.fixed_lungs > 0
    folds = fold_count(jacobian_determinant(u), lungs) / max(lungs.sum(), 1)
    return {
        "mean mm": error_mm.mean(),
        "median": np.median(error_mm),
        "p95": np.percentile(error_mm, 95),
        "folds %": 100 * float(folds),
        "networks s": seconds,
    }


def rows(options, params, network):
    """Yields a row a pair and variant."""
    for kind, name, fixed, moving, fixed_mm, moving_mm in cases(options):
        pair = align(fixed, moving)
        for variant, levels in variants(params):
            about = {"set": kind, "pair": name, "networks": variant}
            yield about | measure(pair, levels, network, fixed_mm, moving_mm)


def main():
    """Prints the table, and the mean of each variant over the pairs of a set."""
    parser = development_parser(__doc__)
    parser.add_argument("--weights", default="paper", help="Name of weights that ship, or a file.")
    parser.add_argument("--phantoms", type=int, default=6)
    options = parser.parse_args()
    params, network = load_named(options.weights)
    table = print_rows(rows(options, params, network), options)
    for kind in dict.fromkeys(row["set"] for row in table):
        for variant, _ in variants(params):
            its = [r["mean mm"] for r in table if (r["set"], r["networks"]) == (kind, variant)]
            print(f"{kind}, {variant}: mean {np.mean(its):.2f} mm, at most {np.max(its):.2f}")


if __name__ == "__main__":
    main()

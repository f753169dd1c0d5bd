"""Could networks make the refinement faster? Seconds of both, compiled, on one generated pair.

    python benchmarks/stages.py [--rounds 3]

The refinement goes from coarse to fine. A start from the networks could at best spare it all grids
but the finest, which are those of a refinement on voxels of twice the size.
"""

import jax
from harness import median_seconds, parser, print_rows, size

from jaxreg.engine.gauss_newton import refine
from jaxreg.engine.prealignment import prealign
from jaxreg.geometry.lung_grid import FRAME, lung_frame, pair_to_frame
from jaxreg.lungs.pair import lungs_of_pair
from jaxreg.network.weights import load_shipped
from jaxreg.phantom.pair import phantom_pair
from jaxreg.pipeline.registration import register

SEED = 40_000_000


def main():
    """Prints the table."""
    arguments = parser(__doc__)
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    rounds = options.rounds
    pair = phantom_pair(SEED, shape=(160, 128, 160), motion=20.0)
    lungs = lungs_of_pair(pair.fixed, pair.moving)
    matrix, _ = prealign(pair.fixed, pair.moving, *lungs)
    _, config = load_shipped()
    networks = jax.jit(register)

    def on_frame(shape):
        frame = lung_frame(*lungs, matrix, shape=shape)
        return pair_to_frame(pair.fixed, pair.moving, lungs[0], frame, matrix), frame.spacing_mm

    def refinement(shape):
        arrays, spacing_mm = on_frame(shape)
        return median_seconds(lambda: refine(*arrays, spacing_mm=spacing_mm), rounds)

    (fixed, moving, _), _ = on_frame(config.grid)
    half = (FRAME[0] // 2, FRAME[1] // 2, FRAME[2] // 2)
    rows = {
        f"networks on {size(config.grid)}": median_seconds(lambda: networks(fixed, moving), rounds),
        f"refinement on {size(FRAME)}": refinement(FRAME),
        f"of it, what a start could spare: up to {size(half)}": refinement(half),
    }
    print_rows(({"stage": name, "s": value} for name, value in rows.items()), options.json)


if __name__ == "__main__":
    main()

"""Could networks make the refinement faster? Seconds of both, compiled, on one generated pair.

    python benchmarks/stages.py [--rounds 3]

The refinement goes from coarse to fine. A start from the networks could at best spare it all grids
but the finest, which are those of a refinement on voxels of twice the size.
"""

import jax
from harness import median_seconds, parser, print_rows, size

from jaxreg.config import LungGridConfig, OptimiserConfig, RegistrationConfig
from jaxreg.network.weights import load_named
from jaxreg.phantom.pair import phantom_pair
from jaxreg.pipeline.align import align
from jaxreg.pipeline.registration import register
from jaxreg.pipeline.stages import optimiser_stage

SEED = 40_000_000


def main():
    """Prints the table."""
    arguments = parser(__doc__)
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    rounds = options.rounds
    pair = phantom_pair(SEED, shape=(160, 128, 160), motion=20.0)
    _, config = load_named("lung")
    networks = jax.jit(register)

    def aligned(shape):
        settings = RegistrationConfig(grid=LungGridConfig(shape))
        return align(pair.fixed, pair.moving, config=settings)

    def refinement(shape):
        on_grid = aligned(shape)
        return median_seconds(lambda: optimiser_stage(on_grid, None, OptimiserConfig()), rounds)

    fixed, moving = aligned(config.grid).fixed, aligned(config.grid).moving
    whole = aligned(None).fixed.shape
    half = (whole[0] // 2, whole[1] // 2, whole[2] // 2)
    rows = {
        f"networks on {size(config.grid)}": median_seconds(lambda: networks(fixed, moving), rounds),
        f"refinement on {size(whole)}": refinement(whole),
        f"of it, what a start could spare: up to {size(half)}": refinement(half),
    }
    print_rows(({"stage": name, "s": value} for name, value in rows.items()), options)


if __name__ == "__main__":
    main()

"""Could networks make the refinement faster? Seconds of both, compiled, on one generated pair.

    python benchmarks/stages.py [--rounds 3]

The refinement goes from coarse to fine. A start from the networks could at best spare it all grids
but the finest, which are those of a refinement on voxels of twice the size.
"""

import argparse
import statistics
import time

import jax

from jaxreg.engine.gauss_newton import refine
from jaxreg.engine.prealignment import prealign
from jaxreg.geometry.lung_grid import FRAME, lung_frame, pair_to_frame
from jaxreg.lungs.pair import lungs_of_pair
from jaxreg.network.weights import load_shipped
from jaxreg.phantom.pair import phantom_pair
from jaxreg.pipeline.registration import register

SEED = 40_000_000


def size(shape):
    """The shape as it is written in words."""
    return "x".join(str(n) for n in shape)


def seconds(function, rounds):
    """Median of several calls after a first one, which compiles."""
    jax.block_until_ready(function())
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        jax.block_until_ready(function())
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
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
        return seconds(lambda: refine(*arrays, spacing_mm=spacing_mm), rounds)

    (fixed, moving, _), _ = on_frame(config.grid)
    half = (FRAME[0] // 2, FRAME[1] // 2, FRAME[2] // 2)
    rows = {
        f"networks on {size(config.grid)}": seconds(lambda: networks(fixed, moving), rounds),
        f"refinement on {size(FRAME)}": refinement(FRAME),
        f"of it, what a start could spare: up to {size(half)}": refinement(half),
    }
    print("| | s |\n|---|---:|")
    for name, value in rows.items():
        print(f"| {name} | {value:.2f} |")


if __name__ == "__main__":
    main()

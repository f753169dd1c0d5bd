"""Seconds and memory of the cascade of three levels, and memory of a training step of each level.

    python benchmarks/cascade.py --size 192 160 192

The network is the paper's, with parameters as drawn; the time does not depend on them. Memory is
what the compiled program asks for (`memory_analysis`); peak is that of the whole process
after the forward passes, the training steps are compiled only.
"""

import dataclasses
import resource

import jax
import jax.numpy as jnp
import numpy as np
from harness import median_seconds, parser, print_rows, size

from jaxreg.config import Config, NetworkConfig
from jaxreg.network.cascade import cascade, init_level
from jaxreg.training.loop import initial_state, make_step
from jaxreg.training.losses import Example

KEYPOINTS, LABELS = 1024, 5


def gigabytes(compiled):
    """Arguments, outputs and temporary memory of a program, GB."""
    sizes = compiled.memory_analysis()
    names = ("argument_size_in_bytes", "output_size_in_bytes", "temp_size_in_bytes")
    return [getattr(sizes, name) / 1e9 for name in names]


def training_step(config, level):
    """The compiled step of a level with all terms of the loss, one pair a step."""
    shape = tuple(n // 2 ** (level - 1) for n in config.network.grid)

    def array(*size):
        return jax.ShapeDtypeStruct((1, *size), jnp.float32)

    points = array(KEYPOINTS, 3)
    labels = array(*shape, LABELS)
    batch = Example(
        *[array(*shape)] * 3, labels, labels, points, points, array(KEYPOINTS), array(3)
    )
    state = jax.eval_shape(lambda: initial_state(config, level))
    levels = range(config.network.levels, level, -1)
    coarser = {f"level_{coarse}": state.params for coarse in levels}
    return make_step(config, level, augmented=False).lower(state, coarser, batch).compile()


def programs(network, options):
    """Yields a row a program."""
    params = {
        f"level_{level}": init_level(jax.random.key(level), network)
        for level in range(network.levels, 0, -1)
    }
    noise = np.random.default_rng(0).normal(-600.0, 300.0, (2, *options.size)).astype(np.float32)
    function = jax.jit(cascade, static_argnums=3)
    compiled = function.lower(params, noise[0], noise[1], network).compile()
    images = jax.device_put(list(noise))
    seconds = median_seconds(lambda: compiled(params, *images), options.rounds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    yield row(f"forward, {size(options.size)}", compiled, seconds, peak)
    config = dataclasses.replace(Config(), network=network)
    for level in range(network.levels, 0, -1) if options.steps else ():
        yield row(f"training step of level {level}", training_step(config, level), None, None)


def row(name, compiled, seconds, peak):
    """Figures of a program."""
    arguments, output, temporary = gigabytes(compiled)
    return {
        "program": name,
        "arguments GB": arguments,
        "output GB": output,
        "temporary GB": temporary,
        "s": seconds,
        "peak of the process GiB": peak,
    }


def main():
    """Prints the table."""
    arguments = parser(__doc__)
    arguments.add_argument(
        "--size", type=int, nargs=3, default=(192, 160, 192), metavar=("X", "Y", "Z")
    )
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--steps", action="store_true", help="training steps as well (minutes)")
    options = arguments.parse_args()
    print_rows(programs(NetworkConfig(grid=tuple(options.size)), options), options)


if __name__ == "__main__":
    main()

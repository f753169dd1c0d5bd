"""Seconds of convolution, warp and NGF with their gradients: jaxreg beside stock XLA and PyTorch.

    python benchmarks/kernels.py --size 96 80 96 --json kernels.json

By the clock, medians over rounds in which every program runs once, in turn, so that a busy machine
slows all of them. PyTorch comes with the extra [bench] and works in the faster of its two layouts
(channels last) for the convolution. `grid_sample` is given its normalised coordinates ready-made;
`warp` makes its own from the displacement. Several sizes in a row show how the cost grows:

    python benchmarks/kernels.py --size 48 40 48 96 80 96 192 160 192
"""

import importlib.util
import os
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
from harness import parser, print_rows, size
from network import stock_conv3d

from jaxreg.network.conv import conv3d
from jaxreg.ops.deformation import warp
from jaxreg.training.losses import ngf

FEATURES = 16  # of the convolution at full resolution
SPACING = (2.0, 1.5, 2.5)
EDGE = 30.0  # HU/mm


def arrays(shape):
    """Features, kernel, two images, displacement and mask of one size."""
    rng = np.random.default_rng(0)

    def normal(*size, scale=1.0):
        return (scale * rng.normal(size=size)).astype(np.float32)

    return {
        "x": normal(*shape, FEATURES),
        "w": normal(3, 3, 3, FEATURES, FEATURES, scale=0.05),
        "fixed": normal(*shape, scale=300.0),
        "moving": normal(*shape, scale=300.0),
        "u": normal(*shape, 3, scale=2.0),
        "mask": np.ones(shape, np.float32),
    }


def jax_programs(a, convolution):
    """{kernel: function that runs it once}."""
    a = {name: jnp.asarray(value) for name, value in a.items()}

    def distance(warped):
        return ngf(warped, a["fixed"], a["mask"], spacing_mm=SPACING, edge=EDGE)

    def both(x, w):
        return jax.grad(lambda x, w: jnp.sum(convolution(x, w) ** 2), (0, 1))(x, w)

    functions = {
        "conv": (convolution, a["x"], a["w"]),
        "conv and gradients": (both, a["x"], a["w"]),
        "warp": (warp, a["moving"], a["u"]),
        "warp and gradient": (
            jax.value_and_grad(lambda u, m: jnp.sum(warp(m, u) ** 2)),
            a["u"],
            a["moving"],
        ),
        "ngf": (distance, a["moving"]),
        "ngf and gradient": (jax.value_and_grad(distance), a["moving"]),
    }
    programs = {}
    for name, (function, *arguments) in functions.items():
        compiled = jax.jit(function).lower(*arguments).compile()
        programs[name] = lambda f=compiled, a=arguments: jax.block_until_ready(f(*a))
    return programs


def torch_programs(a):
    """The same kernels in PyTorch."""
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    layout = torch.channels_last_3d
    x = torch.from_numpy(a["x"]).permute(3, 0, 1, 2)[None].contiguous(memory_format=layout)
    w = torch.from_numpy(a["w"].transpose(4, 3, 0, 1, 2).copy()).contiguous(memory_format=layout)
    shape = np.array(a["fixed"].shape)
    y = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1) + a["u"]
    grid = torch.from_numpy((2 * y / (shape - 1) - 1)[..., ::-1].astype(np.float32).copy())[None]
    moving, fixed = torch.from_numpy(a["moving"]), torch.from_numpy(a["fixed"])

    def convolve(x, w):
        return F.conv3d(x, w, padding=1)

    def grid_sample(grid):
        return F.grid_sample(moving[None, None], grid, padding_mode="border", align_corners=True)

    def gradient(image):
        return torch.stack(torch.gradient(image, spacing=list(SPACING)), -1)

    gradient_f = gradient(fixed)

    def distance(warped):
        gradient_w = gradient(warped)
        product = (gradient_w * gradient_f).sum(-1) + EDGE**2
        lengths = [(g**2).sum(-1) + EDGE**2 for g in (gradient_w, gradient_f)]
        return (1 - product**2 / (lengths[0] * lengths[1])).mean()

    def forward(function, *arguments):
        def run():
            with torch.no_grad():
                function(*arguments)

        return run

    def with_gradients(function, *arguments):
        leaves = [argument.clone().requires_grad_(True) for argument in arguments]
        return lambda: torch.autograd.grad(function(*leaves).square().sum(), leaves)

    return {
        "conv": forward(convolve, x, w),
        "conv and gradients": with_gradients(convolve, x, w),
        "warp": forward(grid_sample, grid),
        "warp and gradient": with_gradients(grid_sample, grid),
        "ngf": forward(distance, moving),
        "ngf and gradient": with_gradients(distance, moving),
    }


def measure(programs, rounds):
    """Median seconds, {kernel: {library: seconds}}; libraries in turn within each round."""
    seconds = {}
    for kernel in programs["jaxreg"]:
        runs = {library: by_kernel[kernel] for library, by_kernel in programs.items()}
        samples = {library: [] for library in runs}
        for run in runs.values():
            run()
        for _ in range(rounds):
            for library, run in runs.items():
                began = time.perf_counter()
                run()
                samples[library].append(time.perf_counter() - began)
        seconds[kernel] = {name: statistics.median(values) for name, values in samples.items()}
    return seconds


def table(shape, rounds):
    """Yields a row a kernel on images of one size."""
    a = arrays(shape)
    programs = {"jaxreg": jax_programs(a, conv3d)}
    # of these kernels stock XLA has its own convolution alone; the others are jaxreg's
    stock = jax_programs(a, stock_conv3d)
    if importlib.util.find_spec("torch"):
        programs["torch"] = torch_programs(a)
    seconds = measure(programs, rounds)
    convolutions = {kernel: stock[kernel] for kernel in ("conv", "conv and gradients")}
    for kernel, row in measure({"jaxreg": convolutions}, 3).items():
        seconds[kernel]["stock"] = row["jaxreg"]
    for kernel, row in seconds.items():
        ms = {library: 1e3 * value for library, value in row.items()}
        yield {
            "size": size(shape),
            "kernel": kernel,
            "jaxreg ms": ms["jaxreg"],
            "stock XLA ms": ms.get("stock"),
            "PyTorch ms": ms.get("torch"),
            "jaxreg / PyTorch": row["jaxreg"] / row["torch"] if "torch" in row else None,
        }


def main():
    """Prints the table."""
    arguments = parser(__doc__)
    arguments.add_argument("--size", type=int, nargs="+", default=(96, 80, 96), metavar="N")
    arguments.add_argument("--rounds", type=int, default=7)
    options = arguments.parse_args()
    if len(options.size) % 3:
        arguments.error(f"--size: expected three numbers a size, got {len(options.size)}")
    shapes = zip(*[iter(options.size)] * 3, strict=True)
    print_rows((row for shape in shapes for row in table(shape, options.rounds)), options)


if __name__ == "__main__":
    main()

"""Seconds of the U-Net (forward, training step): jaxreg, stock XLA and PyTorch side by side.

    python benchmarks/network.py --size 96 80 96 --json network.json

Each round runs every program once, in turn, so that a busy machine slows all of them; the medians
over the rounds are reported. "cpu" is processor time over all threads divided by the number of
cores: it says more than the clock where other work is running. "torch" is PyTorch's default layout,
"torch_channels_last" the other one. PyTorch comes with the extra [bench].
"""

import importlib.util
import os
import statistics
import time
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
from harness import parser, print_rows, size

from jaxreg.network import unet as unet_module
from jaxreg.network.unet import UNet

KINDS = ("forward", "train_step")
CORES = len(os.sched_getaffinity(0))


def stock_conv3d(x, w, b=None):
    """XLA's own 3-D convolution, with the gradient that autodiff gives it."""
    numbers = ("NXYZC", "XYZIO", "NXYZC")
    y = jax.lax.conv_general_dilated(x[None], w, (1, 1, 1), "SAME", dimension_numbers=numbers)[0]
    return y if b is None else y + b[None, None, None]


def jax_programs(images, *, convolution=None):
    """{"forward": ..., "train_step": ...} of our network, each runs once when called."""
    network = UNet()
    optimiser = optax.adam(1e-3)
    params = jax.jit(network.init)(jax.random.key(0), jnp.zeros((8, 8, 8, 2)))
    state = optimiser.init(params)

    def step(params, state, images):
        gradient = jax.grad(lambda p: jnp.sum(network.apply(p, images) ** 2))(params)
        update, state = optimiser.update(gradient, state, params)
        return optax.apply_updates(params, update), state

    with mock.patch.object(unet_module, "conv3d", convolution or unet_module.conv3d):
        forward = jax.jit(network.apply).lower(params, images).compile()
        train = jax.jit(step).lower(params, state, images).compile()
    return {
        "forward": lambda: jax.block_until_ready(forward(params, images)),
        "train_step": lambda: jax.block_until_ready(train(params, state, images)),
    }


def torch_programs(images, *, layout):
    """The same network and step in PyTorch."""
    import torch
    from torch import nn

    torch.set_num_threads(CORES)

    def block(features, filters):
        layers = [nn.Conv3d(features, filters, 3, padding=1, bias=False)]
        layers += [nn.InstanceNorm3d(filters, affine=True), nn.ReLU(inplace=True)]
        return nn.Sequential(*layers)

    class Network(nn.Module):
        def __init__(self, widths=(16, 32, 64, 128)):
            super().__init__()
            before = (2, *widths[:-1])
            pairs = list(zip(before, widths, strict=True))
            self.down = nn.ModuleList(nn.Sequential(block(c, f), block(f, f)) for c, f in pairs)
            self.rise = nn.ModuleList(
                nn.ConvTranspose3d(c, f, 2, 2, bias=False) for f, c in pairs[1:]
            )
            self.up = nn.ModuleList(
                nn.Sequential(block(2 * f, f), block(f, f)) for f in widths[:-1]
            )
            self.head = nn.Conv3d(widths[0], 3, 1)
            self.pool = nn.AvgPool3d(2)

        def forward(self, x):
            skips = []
            for depth, down in enumerate(self.down):
                x = down(self.pool(x) if depth else x)
                skips.append(x)
            for depth in reversed(range(len(self.up))):
                x = self.up[depth](torch.cat([self.rise[depth](x), skips[depth]], 1))
            return self.head(x)

    memory_format = getattr(torch, layout)
    network = Network().to(memory_format=memory_format)
    x = torch.from_numpy(images.transpose(3, 0, 1, 2)[None] / 500.0)
    x = x.contiguous(memory_format=memory_format)
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)

    def forward():
        with torch.no_grad():
            network(x)

    def train_step():
        optimiser.zero_grad()
        network(x).square().sum().backward()
        optimiser.step()

    return {"forward": forward, "train_step": train_step}


def measure(programs, *, rounds, kinds=KINDS):
    """Medians over interleaved rounds: {name: {"forward_s", "forward_cpu_s", ...}}."""
    samples = {name: {} for name in programs}
    for kind in kinds:
        for run in programs.values():
            run[kind]()
        for _ in range(rounds):
            for name, run in programs.items():
                clock, cpu = time.perf_counter(), time.process_time()
                run[kind]()
                seconds = time.perf_counter() - clock, (time.process_time() - cpu) / CORES
                for key, value in zip((f"{kind}_s", f"{kind}_cpu_s"), seconds, strict=True):
                    samples[name].setdefault(key, []).append(value)
    return {
        name: {key: statistics.median(values) for key, values in kinds.items()}
        for name, kinds in samples.items()
    }


def main():
    """Prints the table."""
    arguments = parser(__doc__)
    arguments.add_argument(
        "--size", type=int, nargs=3, default=(96, 80, 96), metavar=("X", "Y", "Z")
    )
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    options = arguments.parse_args()
    noise = np.random.default_rng(0).normal(-600.0, 300.0, (*options.size, 2))
    images = noise.astype(np.float32)
    programs = {
        "jaxreg": jax_programs(images),
        "stock": jax_programs(images, convolution=stock_conv3d),
    }
    if importlib.util.find_spec("torch"):
        programs["torch"] = torch_programs(images, layout="contiguous_format")
        programs["torch_channels_last"] = torch_programs(images, layout="channels_last_3d")
    seconds = measure(programs, rounds=options.rounds, kinds=options.kinds)
    print(f"{size(options.size)}, {CORES} cores, median of {options.rounds} rounds")
    print_rows(({"program": name, **row} for name, row in seconds.items()), options)


if __name__ == "__main__":
    main()

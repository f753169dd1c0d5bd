"""Ablation: nothing left out. The paper's cascade on a small grid, the networks alone.

    python train.py --config configs/ablation/proposed.py --workdir runs/ablation/proposed

The data and the loss are those of configs/small.py. Networks start from no local flow, so that each
finding of the paper's Table 2 is about the networks, and the grid is 64x48x64 (about 5 mm), so that
all variants are trained within an hour or two on a laptop.
"""

import dataclasses
from pathlib import Path

from jaxreg.config import load_config

base = load_config(Path(__file__).parents[1] / "small.py")
config = dataclasses.replace(
    base,
    network=dataclasses.replace(base.network, grid=(64, 48, 64), flow=0),
    training=dataclasses.replace(base.training, steps=(150, 600, 600)),
)

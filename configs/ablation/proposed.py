"""Ablation: nothing left out. configs/small.py on a smaller grid and in fewer steps.

    python train.py --config configs/ablation/proposed.py --workdir runs/ablation/proposed

The grid is 64x48x64 (about 5 mm), so that a variant takes minutes rather than an hour on two cores.
"""

import dataclasses
from pathlib import Path

from jaxreg.config import load_config

base = load_config(Path(__file__).parents[1] / "small.py")
config = dataclasses.replace(
    base,
    network=dataclasses.replace(base.network, grid=(64, 48, 64)),
    training=dataclasses.replace(base.training, steps=(100, 400, 400)),
)

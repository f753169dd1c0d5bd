"""Ablation: nothing left out. `jaxreg.configs.paper_small` on a smaller grid and in fewer steps.

    jaxreg train --config ablation/proposed --workdir runs/ablation/proposed

The grid is 64x48x64 (about 5 mm), so that a variant takes minutes rather than an hour on two cores.
"""

import dataclasses

from jaxreg.configs.paper_small import config as base

config = dataclasses.replace(
    base,
    network=dataclasses.replace(base.network, grid=(64, 48, 64)),
    training=dataclasses.replace(
        base.training,
        steps=(100, 400, 400),
        batch=(1, 1, 2),
        warmup=30,
        decay=0.02,
        checkpoint_every=100,
    ),
)

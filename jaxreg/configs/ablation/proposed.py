"""Ablation: nothing left out. `jaxreg.configs.small` on a smaller grid and in fewer steps.

    jaxreg train --config ablation/proposed --workdir runs/ablation/proposed

The grid is 64x48x64 (about 5 mm), so that a variant takes minutes rather than an hour on two cores.
"""

import dataclasses

from jaxreg.configs.small import config as base

config = dataclasses.replace(
    base,
    network=dataclasses.replace(base.network, grid=(64, 48, 64)),
    training=dataclasses.replace(base.training, steps=(100, 400, 400)),
)

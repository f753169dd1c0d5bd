"""VoxelMorph (Balakrishnan et al. 2019, IEEE TMI 38(8)) for comparison: one U-Net, unsupervised.

    jaxreg train --level 1 --config voxelmorph --workdir runs/voxelmorph

Its loss (local correlation in 9x9x9 voxels and diffusion, here of mm per mm with a weight of 1 that
has not been tuned) and the widths of its encoder, in our U-Net (instance norm, pooling), on the
grid of `jaxreg.configs.paper_small`, on synthetic pairs.
"""

import dataclasses

from jaxreg.config import Config, LossConfig, NetworkConfig
from jaxreg.configs.paper_small import config as base

config = Config(
    network=NetworkConfig(
        grid=base.network.grid,
        levels=1,
        widths=(16, 32, 32, 32),
        convs=1,
        window=(-1000.0, 0.0),
    ),
    loss=LossConfig(
        similarity=0.0,
        smoothness=0.0,
        masks=0.0,
        volume=0.0,
        keypoints=(0.0,),
        volume_threshold=(0.05,),
        lncc=1.0,
        diffusion=1.0,
    ),
    training=dataclasses.replace(
        base.training, steps=(4000,), batch=(1,), blocks=(1,), warmup=30, decay=0.02, detected=False
    ),
)

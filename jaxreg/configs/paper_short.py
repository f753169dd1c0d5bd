"""The settings that made `--weights paper`: `jaxreg.configs.paper_small` on one core in an evening.

    jaxreg train --level 1..3 --config paper_short --workdir runs/paper_short

The network, the loss and the pairs are those of `paper_small`; three things differ. There are 6,700
steps instead of 56,250, and the learning rate falls to 2 %. The 90 pairs move little, so each is
changed at random (`jaxreg.training.augmentation`). Level 1 learns on blocks of half the grid an
axis, at a fifth of the cost of a step.
"""

import dataclasses

from jaxreg.configs.paper_small import config as base

config = dataclasses.replace(
    base,
    training=dataclasses.replace(
        base.training,
        steps=(600, 1100, 5000),
        blocks=(2, 1, 1),
        warmup=30,
        decay=0.02,
        augment=True,
        checkpoint_every=200,
    ),
)

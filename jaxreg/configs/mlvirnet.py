"""mlVIRNet (Hering et al. 2019, MICCAI): the paper's cascade with its predecessor's loss.

    jaxreg train --level 1..3 --config mlvirnet --workdir runs/mlvirnet

NGF, curvature and mask alignment; no penalty of volume change and no keypoints. Synthetic pairs on
the grid of `jaxreg.configs.paper_small`. How far it was trained is in docs/results/training.md.
"""

import dataclasses

from jaxreg.configs.paper_small import config as base

config = dataclasses.replace(
    base,
    loss=dataclasses.replace(base.loss, volume=0.0, keypoints=(0.0, 0.0, 0.0)),
    training=dataclasses.replace(
        base.training,
        steps=(2500, 3000, 3000),
        batch=(1, 2, 4),
        warmup=30,
        decay=0.02,
        detected=False,
    ),
)

"""mlVIRNet (Hering et al. 2019, MICCAI): the paper's cascade with its predecessor's loss.

    jaxreg train --level 1..3 --config mlvirnet --workdir runs/mlvirnet

NGF, curvature and mask alignment; no penalty of volume change and no keypoints. All else is as in
`jaxreg.configs.paper_stream`, but for the number of steps. What it reached is in
docs/results/training.md.
"""

import dataclasses

from jaxreg.configs.paper_stream import config as base

config = dataclasses.replace(
    base,
    loss=dataclasses.replace(base.loss, volume=0.0, keypoints=(0.0, 0.0, 0.0)),
    training=dataclasses.replace(base.training, steps=(300, 4000, 5000)),
)

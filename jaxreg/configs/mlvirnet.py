"""mlVIRNet (Hering et al. 2019, MICCAI): the paper's cascade with its predecessor's loss.

    jaxreg train --level 1..3 --config mlvirnet --workdir runs/mlvirnet

NGF, curvature and mask alignment; no penalty of volume change, no keypoints, no local flow. Grid
and data are those of `jaxreg.configs.small`. How far we trained it is in docs/training.md.
"""

import dataclasses

from jaxreg.configs.small import config as base

config = dataclasses.replace(
    base,
    network=dataclasses.replace(base.network, flow=0),
    loss=dataclasses.replace(base.loss, volume=0.0, keypoints=(0.0, 0.0, 0.0)),
    training=dataclasses.replace(base.training, steps=(2500, 3000, 3000), batch=(1, 2, 4)),
)

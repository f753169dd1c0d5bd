"""mlVIRNet (Hering et al. 2019, MICCAI): the paper's cascade with its predecessor's loss.

    python train.py --level 1..3 --config configs/mlvirnet.py --workdir runs/mlvirnet

NGF, curvature and mask alignment; no penalty of volume change, no keypoints, no local flow. Grid
and data are those of configs/small.py. How far we trained it is in docs/training.md.
"""

import dataclasses
from pathlib import Path

from jaxreg.config import load_config

base = load_config(Path(__file__).with_name("small.py"))
config = dataclasses.replace(
    base,
    network=dataclasses.replace(base.network, flow=0),
    loss=dataclasses.replace(base.loss, volume=0.0, keypoints=(0.0, 0.0, 0.0)),
    training=dataclasses.replace(base.training, steps=(2500, 3000, 3000), batch=(1, 2, 4)),
)

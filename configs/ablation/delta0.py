"""Ablation: no keypoints (delta = 0).

python train.py --level 1..3 --config configs/ablation/delta0.py --workdir runs/delta0
"""

import dataclasses
from pathlib import Path

from jaxreg.config import load_config

base = load_config(Path(__file__).parents[1] / "small.py")
config = dataclasses.replace(base, loss=dataclasses.replace(base.loss, keypoints=(0.0, 0.0, 0.0)))

"""Ablation: no keypoints (delta = 0).

python train.py --config configs/ablation/delta0.py --workdir runs/ablation/delta0
"""

import dataclasses
from pathlib import Path

from jaxreg.config import load_config

base = load_config(Path(__file__).with_name("proposed.py"))
config = dataclasses.replace(base, loss=dataclasses.replace(base.loss, keypoints=(0.0, 0.0, 0.0)))

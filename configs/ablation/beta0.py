"""Ablation: no mask alignment (beta = 0).

python train.py --level 1..3 --config configs/ablation/beta0.py --workdir runs/beta0
"""

import dataclasses
from pathlib import Path

from jaxreg.config import load_config

base = load_config(Path(__file__).parents[1] / "small.py")
config = dataclasses.replace(base, loss=dataclasses.replace(base.loss, masks=0.0))

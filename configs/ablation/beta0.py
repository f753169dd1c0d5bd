"""Ablation: no mask alignment (beta = 0).

python train.py --config configs/ablation/beta0.py --workdir runs/ablation/beta0
"""

import dataclasses
from pathlib import Path

from jaxreg.config import load_config

base = load_config(Path(__file__).with_name("proposed.py"))
config = dataclasses.replace(base, loss=dataclasses.replace(base.loss, masks=0.0))

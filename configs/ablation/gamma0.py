"""Ablation: no penalty of volume change (gamma = 0).

python train.py --config configs/ablation/gamma0.py --workdir runs/ablation/gamma0
"""

import dataclasses
from pathlib import Path

from jaxreg.config import load_config

base = load_config(Path(__file__).with_name("proposed.py"))
config = dataclasses.replace(base, loss=dataclasses.replace(base.loss, volume=0.0))

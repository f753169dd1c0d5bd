"""Ablation: no local flow: the networks alone, as in the paper.

python train.py --config configs/ablation/flow0.py --workdir runs/ablation/flow0
"""

import dataclasses
from pathlib import Path

from jaxreg.config import load_config

base = load_config(Path(__file__).with_name("proposed.py"))
config = dataclasses.replace(base, network=dataclasses.replace(base.network, flow=0))

"""Ablation: local flow before each network, as in configs/small.py.

python train.py --config configs/ablation/flow2.py --workdir runs/ablation/flow2
"""

import dataclasses
from pathlib import Path

from jaxreg.config import load_config

base = load_config(Path(__file__).with_name("proposed.py"))
config = dataclasses.replace(base, network=dataclasses.replace(base.network, flow=2))

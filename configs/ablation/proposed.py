"""Ablation: nothing left out, configs/small.py.

python train.py --level 1..3 --config configs/ablation/proposed.py --workdir runs/proposed
"""

from pathlib import Path

from jaxreg.config import load_config

base = load_config(Path(__file__).parents[1] / "small.py")
config = base

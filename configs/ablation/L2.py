"""Ablation: two networks (L = 2), in about the same time.

python train.py --level 1..2 --config configs/ablation/L2.py --workdir runs/L2
"""

from pathlib import Path

from jaxreg.config import load_config, with_levels

base = load_config(Path(__file__).parents[1] / "small.py")
config = with_levels(base, (120, 1200))

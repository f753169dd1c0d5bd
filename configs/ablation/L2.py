"""Ablation: two networks (L = 2), in about the same time.

python train.py --config configs/ablation/L2.py --workdir runs/ablation/L2
"""

from pathlib import Path

from jaxreg.config import load_config, with_levels

base = load_config(Path(__file__).with_name("proposed.py"))
config = with_levels(base, (100, 700))

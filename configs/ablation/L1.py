"""Ablation: one network, on the finest grid (L = 1), in about the same time.

python train.py --config configs/ablation/L1.py --workdir runs/ablation/L1
"""

from pathlib import Path

from jaxreg.config import load_config, with_levels

base = load_config(Path(__file__).with_name("proposed.py"))
config = with_levels(base, (200,))

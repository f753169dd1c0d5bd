"""Ablation: one network, on the finest grid (L = 1), in about the same time.

jaxreg train --config ablation/L1 --workdir runs/ablation/L1
"""

from jaxreg.config import with_levels
from jaxreg.configs.ablation.proposed import config as base

config = with_levels(base, (200,))

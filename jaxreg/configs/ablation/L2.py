"""Ablation: two networks (L = 2), in about the same time.

jaxreg train --config ablation/L2 --workdir runs/ablation/L2
"""

from jaxreg.config import with_levels
from jaxreg.configs.ablation.proposed import config as base

config = with_levels(base, (100, 700))

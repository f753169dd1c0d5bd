"""Ablation: no mask alignment (beta = 0).

jaxreg train --config ablation/beta0 --workdir runs/ablation/beta0
"""

import dataclasses

from jaxreg.configs.ablation.proposed import config as base

config = dataclasses.replace(base, loss=dataclasses.replace(base.loss, masks=0.0))

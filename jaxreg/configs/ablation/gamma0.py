"""Ablation: no penalty of volume change (gamma = 0).

jaxreg train --config ablation/gamma0 --workdir runs/ablation/gamma0
"""

import dataclasses

from jaxreg.configs.ablation.proposed import config as base

config = dataclasses.replace(base, loss=dataclasses.replace(base.loss, volume=0.0))

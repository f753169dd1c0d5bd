"""Ablation: no local flow: the networks alone, as in the paper.

jaxreg train --config ablation/flow0 --workdir runs/ablation/flow0
"""

import dataclasses

from jaxreg.configs.ablation.proposed import config as base

config = dataclasses.replace(base, network=dataclasses.replace(base.network, flow=0))

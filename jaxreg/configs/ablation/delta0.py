"""Ablation: no keypoints (delta = 0).

jaxreg train --config ablation/delta0 --workdir runs/ablation/delta0
"""

import dataclasses

from jaxreg.configs.ablation.proposed import config as base

config = dataclasses.replace(base, loss=dataclasses.replace(base.loss, keypoints=(0.0, 0.0, 0.0)))

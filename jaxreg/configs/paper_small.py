"""The paper's cascade and balance of terms on 96x80x96, on generated subjects.

    jaxreg train --level 1..3 --config paper_small --workdir runs/paper_small

As `jaxreg.configs.paper`, but the grid, and pairs of generated subjects with keypoints that the
detector finds in them, as the paper's are detected in scans. Its schedule is 18,750 steps a level.
"""

import dataclasses

from jaxreg.configs.paper import config as base

config = dataclasses.replace(
    base,
    network=dataclasses.replace(base.network, grid=(96, 80, 96)),
    training=dataclasses.replace(
        base.training, subjects=90, detected=True, log_every=50, checkpoint_every=500
    ),
)

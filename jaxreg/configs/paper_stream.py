"""The settings with which `--weights paper` went on: `paper_short`, then synthetic pairs.

    jaxreg train --level 1..3 --config paper_short --workdir runs/paper_short
    jaxreg train --level 1..3 --config paper_stream --start runs/paper_short/weights.npz

The pairs of `paper_short` move little. Here every step has a new synthetic pair whose motion is as
large as in real cases (`jaxreg.training.synthetic`). Network and loss are those of
`jaxreg.configs.paper_small`; the keypoints are exact and not detected.
"""

import dataclasses

from jaxreg.configs.paper_small import config as base

config = dataclasses.replace(
    base,
    training=dataclasses.replace(
        base.training,
        steps=(300, 3500, 2000),
        blocks=(2, 1, 1),
        subjects=48,
        detected=False,
        warmup=30,
        decay=0.02,
        checkpoint_every=250,
    ),
)

"""Seconds, for tests: three tiny U-Nets on a 32x32x32 grid.

jaxreg train --level 1..3 --config smoke --data phantom --workdir runs/smoke
"""

from jaxreg.config import Config, LossConfig, NetworkConfig, TrainingConfig

config = Config(
    network=NetworkConfig(grid=(32, 32, 32), levels=3, widths=(4, 8), convs=1),
    loss=LossConfig(),
    training=TrainingConfig(
        steps=(4, 4, 4), subjects=2, validation_pairs=1, log_every=1, checkpoint_every=2
    ),
)

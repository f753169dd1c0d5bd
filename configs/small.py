"""What two CPU cores can train: a 96x80x96 grid (about 3 mm), generated pairs.

python train.py --level 1..3 --config configs/small.py --data phantom --workdir runs/small
"""

from jaxreg.config import Config, LossConfig, NetworkConfig, TrainingConfig

config = Config(
    network=NetworkConfig(grid=(96, 80, 96), levels=3, widths=(16, 32, 64, 128), convs=2),
    loss=LossConfig(),
    training=TrainingConfig(epochs=(25, 25, 25), pairs=64, validation_pairs=4),
)

"""The networks that ship: learned channels in least squares, 192x160x192, synthetic pairs.

    python train.py --level 2..4 --config configs/cascade.py --workdir runs/cascade

Levels 4, 3 and 2 (12, 6 and 3 mm) compare learned channels, level 1 (1.5 mm) the standardised image
alone. The ground truth of a synthetic pair is exact and leads the loss.
"""

from jaxreg.config import Config, LossConfig, NetworkConfig, TrainingConfig

config = Config(
    network=NetworkConfig(
        grid=(192, 160, 192),
        architecture="least_squares",
        levels=4,
        widths=(16, 16),
        rounds=(3, 2, 3, 3),
        balance=50.0,
        by_hand=1,
        window=(-1000.0, 0.0),
    ),
    loss=LossConfig(
        similarity=0.0,
        smoothness=0.0,
        masks=0.0,
        volume=0.1,
        keypoints=(0.0, 0.0, 0.0, 0.0),
        volume_threshold=(0.05, 0.05, 0.1, 0.2),
        distance=1.0,
    ),
    training=TrainingConfig(
        steps=(0, 0, 150, 200),
        batch=(1, 1, 1, 2),
        blocks=(1, 1, 1, 1),
        subjects=72,
        learning_rate=2e-3,
        warmup=20,
        decay=0.02,
        log_every=10,
        checkpoint_every=50,
    ),
)

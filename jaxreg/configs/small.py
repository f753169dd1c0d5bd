"""The shipped networks: 96x80x96 (about 3 mm), local flow and three U-Nets, synthetic pairs.

    jaxreg train --level 1..3 --config small --workdir runs/small

Add --anatomies MANIFEST.json to deform real images beside the generated ones. Hours, curves and
results are in docs/training.md and docs/model_card.md. The motion of a synthetic pair is known, so
its keypoints guide level 3 as well (the paper's delta is 0 there), and lead the loss.
"""

from jaxreg.config import Config, LossConfig, NetworkConfig, TrainingConfig

config = Config(
    network=NetworkConfig(grid=(96, 80, 96), window=(-1000.0, 0.0), flow=2),
    loss=LossConfig(keypoints=(0.2, 0.2, 0.2)),
    training=TrainingConfig(
        steps=(120, 600, 600),
        batch=(1, 1, 2),
        subjects=90,
        learning_rate=1e-3,
        warmup=30,
        decay=0.02,
        log_every=50,
        checkpoint_every=150,
    ),
)

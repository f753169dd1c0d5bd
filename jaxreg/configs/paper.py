"""The paper's network, schedule and weights: 192x160x192, L = 3, 25 epochs of 750 pairs a level.

    jaxreg train --level 1..3 --config paper --data MANIFEST.json --workdir runs/paper

Hering et al. 2021, section 4.3: alpha = 10, beta = 1, gamma = 0.01, delta = 1e7 (0 at level 3).
The paper does not say how its integrals are scaled. Here every term is a mean (see
`jaxreg.training.losses`). Its sum over keypoints in normalised coordinates times 1e7 cannot be
turned into a mean in mm^2 without that scaling: we take the weight with which the gradient of the
keypoint term is as large as that of the similarity at 2 mm error, as in the defaults.
Not trained to the end by us: it needs a GPU and the authors' 750 COPDGene pairs.
"""

from jaxreg.config import Config, LossConfig, NetworkConfig, TrainingConfig

config = Config(
    network=NetworkConfig(grid=(192, 160, 192), levels=3, widths=(16, 32, 64, 128), convs=2),
    loss=LossConfig(smoothness=10.0, masks=1.0, volume=0.01, edge=1.0),
    training=TrainingConfig(steps=(18750, 18750, 18750), learning_rate=1e-3),
)

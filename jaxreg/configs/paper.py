"""The paper's network, schedule and weights: 192x160x192, L = 3, 25 epochs of 750 pairs a level.

    jaxreg train --level 1..3 --config paper --data MANIFEST.json --workdir runs/paper

Hering et al. 2021 (Med Image Anal 72, 102139): network of section 3.3, levels of 3.4, Adam and
epochs of 4.3, no augmentation. alpha = 10, beta = 1, gamma = 0.01, delta = 0 at level 3; t = 0.05,
0.1, 0.2 at levels 1, 2, 3. NGF adds eps^2 to each of the three products of its sum, eps = 1:
3 eps^2 in all, which is the square of `edge`.

What the paper does not say is how its integrals are scaled. Here every term is a mean (see
`jaxreg.training.losses`). Its delta = 1e7 of a sum over keypoints in normalised coordinates cannot
be turned into a mean in mm^2 without that scaling: taken is the weight with which the gradient of
the keypoint term is as large as that of the similarity at 2 mm error.
Not trained to the end by us: it needs a GPU and the authors' 750 COPDGene pairs.
"""

import math

from jaxreg.config import Config, LossConfig, NetworkConfig, TrainingConfig

config = Config(
    network=NetworkConfig(grid=(192, 160, 192), levels=3, widths=(16, 32, 64, 128), convs=2),
    loss=LossConfig(
        similarity=1.0,
        smoothness=10.0,
        masks=1.0,
        volume=0.01,
        keypoints=(0.02, 0.02, 0.0),
        volume_threshold=(0.05, 0.1, 0.2),
        edge=math.sqrt(3.0),
    ),
    training=TrainingConfig(
        steps=(18750, 18750, 18750), batch=(1, 1, 1), learning_rate=1e-3, augment=False
    ),
)

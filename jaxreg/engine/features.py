"""What the optimiser compares of an image: channels of it.

A function from an image in HU, (X, Y, Z), to channels (C, X, Y, Z) without unit, each of mean about
0 and deviation about 1 in the window of the local correlation. Learned channels have the same form.
"""

from collections.abc import Callable
from typing import TypeAlias

from jaxtyping import Float

from jaxreg.config import OptimiserConfig
from jaxreg.ops.filters import standardise
from jaxreg.ops.types import AnyArray, Image

Channels: TypeAlias = Float[AnyArray, "C X Y Z"]
Features: TypeAlias = Callable[[Image], Channels]


def standardised_image(image: Image, *, config: OptimiserConfig) -> Channels:
    """The locally standardised image as one channel.

    Args:
        image: HU, (X, Y, Z).
        config: radius of the window in voxels, and noise in HU.

    Returns:
        Channel without unit, (1, X, Y, Z).
    """
    return standardise(image, radius=config.radius, noise=config.noise_hu)[None]

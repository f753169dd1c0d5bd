"""What a learned least-squares level compares: channels of an image and the confidence in them.

The first channel is the image, standardised by its surroundings, plus a correction; the others are
learned altogether. With a head of zeros, only that hand-made channel is left, with confidence 1
everywhere. With two hidden layers a network sees seven voxels along each axis.
"""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Initializer
from jaxtyping import Float

from jaxreg.config import NetworkConfig
from jaxreg.network.conv import conv3d
from jaxreg.ops.filters import binomial, standardise
from jaxreg.ops.types import AnyArray, Image

Maps = Float[AnyArray, "X Y Z C"]


class Channels(NamedTuple):
    """What is compared of one image.

    Attributes:
        values: no unit, (X, Y, Z, C).
        logits: logarithms of the confidence in each, (X, Y, Z, C); None where it is 1 everywhere.
    """

    values: Maps
    logits: Maps | None


class FeatureNet(nn.Module):
    """Channels of an image, for the least squares of one level.

    Attributes:
        config: network settings, of which C is `channels`.
    """

    config: NetworkConfig

    @nn.compact
    def __call__(self, image: Image) -> Channels:
        """Channels of an image in HU, (X, Y, Z), of any size."""
        config = self.config
        scaled, standardised = prepared(image, config=config)
        x = jnp.stack([scaled, standardised], axis=-1)
        for index, width in enumerate(config.widths):
            x = nn.relu(_Conv(width, config.precision, name=f"hidden_{index}")(x))
        faint = functools.partial(_faint, variance=config.faint)
        head = _Conv(2 * config.channels, config.precision, faint, name="head")(x)
        values, logits = jnp.split(head, 2, axis=-1)
        values = values.at[..., 0].add(standardised)
        most = config.most_logit
        return Channels(values, most * jnp.tanh(logits / most))


def hand_made(image: Image, *, config: NetworkConfig) -> Channels:
    """The standardised image alone with confidence 1: the channels of a network whose head is zero.

    Args:
        image: HU, (X, Y, Z).
        config: window of HU, radius in voxels and noise in HU.

    Returns:
        Values, (X, Y, Z, 1), and no logits.
    """
    _, standardised = prepared(image, config=config)
    return Channels(standardised[..., None], None)


def prepared(image: Image, *, config: NetworkConfig) -> tuple[Image, Image]:
    """The input of the network: the image scaled, and standardised by its surroundings.

    Args:
        image: HU, (X, Y, Z).
        config: window of HU, radius in voxels and noise in HU.

    Returns:
        The image clipped to the window and scaled to [-1, 1], (X, Y, Z); the standardised one, same
        shape, without unit.
    """
    low, high = config.window
    clipped = binomial(jnp.clip(image, low, high))
    scaled = (clipped - low) * (2.0 / (high - low)) - 1.0
    return scaled, standardise(clipped, radius=config.radius, noise=config.noise_hu)


def _faint(key, shape, dtype=jnp.float32, *, variance):
    """Small weights for the learned channels; zeros for the correction and the confidences."""
    channels = shape[-1] // 2
    kernel = nn.initializers.variance_scaling(variance, "fan_in", "normal")(key, shape, dtype)
    learned = (jnp.arange(shape[-1]) > 0) & (jnp.arange(shape[-1]) < channels)
    return kernel * learned[None, None, None, None]


class _Conv(nn.Module):
    """3x3x3 convolution and an offset."""

    width: int
    precision: str
    init: Initializer = nn.initializers.he_normal()

    @nn.compact
    def __call__(self, x: Maps) -> Float[AnyArray, "X Y Z F"]:
        kernel = self.param("kernel", self.init, (3, 3, 3, x.shape[-1], self.width))
        bias = self.param("bias", nn.initializers.zeros, (self.width,))
        dtype = jnp.dtype(self.precision)
        y = conv3d(x.astype(dtype), kernel.astype(dtype)).astype(jnp.float32)
        return y + bias[None, None, None]

"""What a learned least-squares level compares: channels of an image and the confidence in them.

The first channel is the image, standardised by its surroundings, plus a correction; the others are
learned altogether. With a head of zeros, only that hand-made channel is left, with confidence 1
everywhere. With two hidden layers a network sees seven voxels along each axis.
"""

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Initializer
from jaxtyping import Float

from jaxreg.network.conv import conv3d
from jaxreg.ops.filters import binomial, standardise
from jaxreg.ops.types import AnyArray, Image

NOISE_HU = 40.0  # standard deviation that counts as none
RADIUS = 2  # of the window that standardises, voxels
MOST_LOGIT = 4.0  # confidences lie between exp(-4) and exp(4)
FAINT = 0.3  # of the variance that keeps a signal's size: learned channels begin faint

Maps = Float[AnyArray, "X Y Z C"]


class Channels(NamedTuple):
    """What is compared of one image.

    Attributes:
        values: no unit, (X, Y, Z, C).
        logits: logarithms of the confidence in each, (X, Y, Z, C).
    """

    values: Maps
    logits: Maps


class FeatureNet(nn.Module):
    """Channels of an image, for the least squares of one level.

    Attributes:
        widths: filters of the hidden layers, 3x3x3 convolutions each.
        channels: C, at least 1.
        window: HU clipped and scaled to [-1, 1], inside the network only.
        precision: "float32" or "bfloat16", of the convolutions.
    """

    widths: Sequence[int] = (16, 16)
    channels: int = 4
    window: tuple[float, float] = (-1000.0, 0.0)
    precision: str = "float32"

    @nn.compact
    def __call__(self, image: Image) -> Channels:
        """Channels of an image in HU, (X, Y, Z), of any size."""
        scaled, standardised = prepared(image, window=self.window)
        x = jnp.stack([scaled, standardised], axis=-1)
        for index, width in enumerate(self.widths):
            x = nn.relu(_Conv(width, self.precision, name=f"hidden_{index}")(x))
        head = _Conv(2 * self.channels, self.precision, _faint, name="head")(x)
        values, logits = jnp.split(head, 2, axis=-1)
        values = values.at[..., 0].add(standardised)
        return Channels(values, MOST_LOGIT * jnp.tanh(logits / MOST_LOGIT))


def hand_made(image: Image, *, window: tuple[float, float]) -> Channels:
    """The standardised image alone, with confidence 1: what a head of zeros leaves."""
    _, standardised = prepared(image, window=window)
    return Channels(standardised[..., None], jnp.zeros((*image.shape, 1)))


def prepared(image: Image, *, window: tuple[float, float]) -> tuple[Image, Image]:
    """The image clipped and scaled to [-1, 1], and standardised by its surroundings."""
    low, high = window
    clipped = binomial(jnp.clip(image, low, high))
    scaled = (clipped - low) * (2.0 / (high - low)) - 1.0
    return scaled, standardise(clipped, radius=RADIUS, noise=NOISE_HU)


def _faint(key, shape, dtype=jnp.float32):
    """Small weights for the learned channels; zeros for the correction and the confidences."""
    channels = shape[-1] // 2
    kernel = nn.initializers.variance_scaling(FAINT, "fan_in", "normal")(key, shape, dtype)
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

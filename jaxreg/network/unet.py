"""The U-Net of one level: from the fixed and the warped image to a displacement.

Architecture of Hering et al. 2021 (Med Image Anal 72, 102139, section 3.3): per resolution 3x3x3
convolutions, instance normalisation and ReLU; 2x2x2 average pooling down, 2x2x2 transposed
convolution up; a 1x1x1 convolution to three channels at the end. Arrays are channels last and
unbatched (use `jax.vmap`). Only the convolutions run in the precision asked for.
"""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxreg.network.conv import conv3d
from jaxreg.ops.types import AnyArray

_VARIANCE_FLOOR = 1e-5
# Variance of the head beside Xavier's: an untrained network moves nothing by more than some 0.05.
_HEAD_VARIANCE = 1e-4

Features = Float[AnyArray, "X Y Z C"]
_xavier = nn.initializers.xavier_uniform()


class UNet(nn.Module):
    """Displacement that one level adds, from two images on its grid.

    Attributes:
        widths: filters per resolution, finest first.
        convs: 3x3x3 convolutions per resolution.
        precision: "float32" or "bfloat16", of the convolutions.
        window: HU clipped and scaled to [-1, 1], inside the network only.
    """

    widths: Sequence[int] = (16, 32, 64, 128)
    convs: int = 2
    precision: str = "float32"
    window: tuple[float, float] = (-1000.0, 500.0)

    @nn.compact
    def __call__(self, images: Float[AnyArray, "X Y Z 2"]) -> Float[AnyArray, "X Y Z 3"]:
        """Displacement in voxels of the grid of the images.

        Args:
            images: fixed and warped image, HU, (X, Y, Z, 2), any size: continued by their edge
                values to a multiple of 2^(len(widths) - 1), and cropped again.

        Returns:
            Displacement in voxels, (X, Y, Z, 3).
        """
        shape = images.shape[:3]
        x = _extend(_scale(images, self.window), 2 ** (len(self.widths) - 1))
        skips = []
        for depth, width in enumerate(self.widths):
            if depth > 0:
                x = _pool(x)
            x = self._resolution([x], width, f"down_{depth}")
            skips.append(x)
        for depth in reversed(range(len(self.widths) - 1)):
            width = self.widths[depth]
            up = _Up(width, self.precision, name=f"up_{depth}_transposed")(x)
            x = self._resolution([up, skips[depth]], width, f"up_{depth}")
        return _Head(self.precision, name="head")(x)[: shape[0], : shape[1], : shape[2]]

    def _resolution(self, parts, width, name):
        for index in range(self.convs):
            parts = [_Block(width, self.precision, name=f"{name}_{index}")(parts)]
        return parts[0]


class _Block(nn.Module):
    """3x3x3 convolution of the parts laid side by side, instance norm, ReLU."""

    width: int
    precision: str

    @nn.compact
    def __call__(self, parts: list[Float[AnyArray, "X Y Z _"]]) -> Float[AnyArray, "X Y Z F"]:
        features = [part.shape[-1] for part in parts]
        kernel = self.param("kernel", _xavier, (3, 3, 3, sum(features), self.width))
        scale = self.param("scale", nn.initializers.ones, (self.width,))
        offset = self.param("offset", nn.initializers.zeros, (self.width,))
        # Convolving each part with its part of the kernel spares the concatenation.
        kernels = jnp.split(kernel, np.cumsum(features)[:-1], axis=3)
        convolved = [
            _convolve(part, own, self.precision) for part, own in zip(parts, kernels, strict=True)
        ]
        y = functools.reduce(jnp.add, convolved)
        return nn.relu(instance_norm(y, scale, offset))


class _Up(nn.Module):
    """2x2x2 transposed convolution of stride 2: one 1x1x1 convolution and depth to space."""

    width: int
    precision: str

    @nn.compact
    def __call__(self, x: Features) -> Float[AnyArray, "_ _ _ F"]:
        # Each output voxel sees one input voxel, so the fans are those of a single matrix.
        init = nn.initializers.xavier_uniform(batch_axis=(0, 1, 2))
        kernel = self.param("kernel", init, (2, 2, 2, x.shape[-1], self.width))
        matrix = kernel.transpose(3, 0, 1, 2, 4).reshape(1, 1, 1, x.shape[-1], 8 * self.width)
        y = _convolve(x, matrix, self.precision).reshape(*x.shape[:3], 2, 2, 2, self.width)
        doubled = [2 * n for n in x.shape[:3]]
        return y.transpose(0, 3, 1, 4, 2, 5, 6).reshape(*doubled, self.width)


class _Head(nn.Module):
    """1x1x1 convolution to the three components of vectors."""

    precision: str

    @nn.compact
    def __call__(self, x: Features) -> Float[AnyArray, "X Y Z _"]:
        init = nn.initializers.variance_scaling(_HEAD_VARIANCE, "fan_avg", "uniform")
        kernel = self.param("kernel", init, (1, 1, 1, x.shape[-1], 3))
        bias = self.param("bias", nn.initializers.zeros, (3,))
        return _convolve(x, kernel, self.precision) + bias[None, None, None]


def instance_norm(
    x: Features, scale: Float[AnyArray, " C"], offset: Float[AnyArray, " C"]
) -> Features:
    """Each channel shifted and scaled to mean `offset` and standard deviation `scale`.

    scale (x - mean) / sqrt(variance + 1e-5) + offset over all voxels (Ulyanov et al. 2016,
    arXiv 1607.08022, eq. 4); a constant channel becomes `offset`.

    Args:
        x: features, (X, Y, Z, C).
        scale: (C,).
        offset: (C,).

    Returns:
        Features, (X, Y, Z, C).
    """
    mean = jnp.mean(x, (0, 1, 2))
    centred = x - mean[None, None, None]
    variance = jnp.mean(centred**2, (0, 1, 2))
    factor = scale * jax.lax.rsqrt(variance + _VARIANCE_FLOOR)
    return centred * factor[None, None, None] + offset[None, None, None]


def _convolve(x, kernel, precision):
    dtype = jnp.dtype(precision)
    return conv3d(x.astype(dtype), kernel.astype(dtype)).astype(jnp.float32)


def _scale(images, window):
    low, high = window
    return (jnp.clip(images, low, high) - low) * (2.0 / (high - low)) - 1.0


def _extend(x, multiple):
    behind = [-n % multiple for n in x.shape[:3]]
    return jnp.pad(x, [*((0, n) for n in behind), (0, 0)], mode="edge")


def _pool(x):
    """2x2x2 average pooling."""
    half = [n // 2 for n in x.shape[:3]]
    return x.reshape(half[0], 2, half[1], 2, half[2], 2, x.shape[3]).mean((1, 3, 5))

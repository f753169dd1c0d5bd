"""What images are compared by in the discrete search: self-similarity, and local standardisation.

MIND-SSC (Heinrich et al. 2013, MICCAI) describes a voxel by how alike the patches around its six
neighbours are to each other; that survives the change of lung density by respiration. At the full
resolution the locally standardised image itself is more exact: its squared differences are LNCC.
"""

import functools
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxreg.config import KeypointConfig
from jaxreg.ops.filters import box_mean, standardise
from jaxreg.ops.interpolation import resize
from jaxreg.ops.types import AnyArray, Image, Number

Channels = Float[AnyArray, "C X Y Z"]
Descriptors = Sequence[Float[AnyArray, "_ _ _ _"]]  # of channels, coarsest resolution first


@functools.partial(jax.jit, static_argnames=("radius", "noise_hu2"))
def mind_ssc(
    image: Image, *, radius: int = 1, noise_hu2: Number = 200.0
) -> Float[AnyArray, "12 X Y Z"]:
    """Self-similarity context of each voxel: exp(-(D_i - min D) / mean(D - min D)), 12 channels.

    D_i is the mean squared difference of the patches around two of the six next voxels, one pair
    for each two that lie sqrt(2) apart.

    Args:
        image: HU, (X, Y, Z); continued by its edge values.
        radius: of the patches, voxels.
        noise_hu2: squared difference of patches that noise alone makes.

    Returns:
        Descriptors in [0, 1], (12, X, Y, Z).
    """
    axes = np.eye(3, dtype=int)
    pairs = [(a, b) for a, b in itertools.combinations((*axes, *-axes), 2) if a @ b == 0]
    image = jnp.pad(image, 1, mode="edge")

    def moved(step):
        """image(x + step)."""
        return jax.lax.slice(
            image, (1 + step).tolist(), (np.array(image.shape) - 1 + step).tolist()
        )

    squares = jnp.stack([(moved(a) - moved(b)) ** 2 for a, b in pairs])
    distances = jax.vmap(functools.partial(box_mean, radius=radius))(squares)
    distances -= jnp.min(distances, axis=0, keepdims=True)
    return jnp.exp(-distances / (jnp.mean(distances, axis=0, keepdims=True) + noise_hu2))


@functools.partial(jax.jit, static_argnames="config")
def descriptors(image: Image, *, config: KeypointConfig) -> Descriptors:
    """What is compared at each resolution.

    Args:
        image: HU, (X, Y, Z).
        config: settings.

    Returns:
        MIND-SSC at 1/4 (means of those at 1/2) and at 1/2 of the resolution, (12, x, y, z) each,
        and the standardised image, (1, X, Y, Z).
    """
    image = jnp.clip(image, *config.window_hu)
    shapes = [tuple(-(-n // factor) for n in image.shape) for factor in (4, 2)]
    half = mind_ssc(resize(image, shapes[1]), noise_hu2=config.mind_noise_hu2)
    quarter = jax.vmap(lambda channel: resize(channel, shapes[0]))(half)
    return [quarter, half, standardise(image, radius=config.radius, noise=config.noise_hu)[None]]

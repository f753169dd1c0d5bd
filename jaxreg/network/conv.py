"""Three-dimensional convolution that is fast on a CPU as well, with its own gradient.

Contract: channels last and unbatched (use `jax.vmap`), stride 1, zero padding, so that the output
has the spatial shape of the input. As usual in networks, "convolution" is a correlation:

    y[p, f] = sum_{d, c} w[d + 1, c, f] x[p + d, c],   d in {-1, 0, 1}^3.

On a GPU or TPU this is `jax.lax.conv_general_dilated`. XLA's CPU backend is some ten times slower
at that than the machine allows (it has fast two-dimensional convolutions and matrix products), so
there the third axis is done by hand: Winograd's F(4, 3) along X (Lavin and Gray 2016, "Fast
algorithms for convolutional neural networks", CVPR, doi 10.1109/CVPR.2016.435, section 4.1) turns
four output slices into six two-dimensional convolutions instead of twelve:

    y = A [(G w) * (B d)],   d: six slices of x,   y: four slices,   *: 2-D convolution over Y, Z.

The gradient with respect to x is the same convolution with flipped, transposed weights; the one
with respect to w is the transpose of the formula, G^T [(B d) corr (A^T dy)], with the 2-D
correlation as matrix products. Both equal the stock convolution to rounding (some 1e-6 relative).
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float

from jaxreg.ops.types import AnyArray

# F(4, 3) with interpolation points 0, 1, -1, 2, -2, infinity.
_TILE = 4  # output slices a tile
_READ = 6  # input slices a tile
_B = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
_G = np.array(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ]
)
_A = np.array(
    [
        [1, 1, 1, 1, 1, 0],
        [0, 1, -1, 2, -2, 0],
        [0, 1, 1, 4, 4, 0],
        [0, 1, -1, 8, -8, 1],
    ]
)
# Up to this many voxels the stock convolution is used everywhere: it compiles in no time.
_SMALL = 512
# Voxels handled in one step of the loop over tiles: few enough to stay in the cache.
_STEP_VOXELS = 32768


def conv3d(
    x: Float[AnyArray, "X Y Z C"], w: Float[AnyArray, "k k k C F"]
) -> Float[AnyArray, "X Y Z F"]:
    """Convolution of stride 1 with zero padding; see the module docstring.

    Args:
        x: features, (X, Y, Z, C), any size.
        w: kernel, (k, k, k, C, F), k = 1 or 3.

    Returns:
        Features, (X, Y, Z, F).

    Raises:
        ValueError: a kernel of another size.
    """
    if w.shape[0] == 1:
        return x @ w[0, 0, 0]
    if w.shape[0] == 3:
        return _conv(x, w)
    raise ValueError(f"w: expected a kernel of size 1 or 3, got {w.shape[:3]}. Use 3.")


@jax.custom_vjp
def _conv(x, w):
    return lax.platform_dependent(x, w, cpu=_sliced, default=_stock)


def _conv_forward(x, w):
    return _conv(x, w), (x, w)


def _conv_backward(residuals, dy):
    x, w = residuals
    dx = _conv(dy, jnp.flip(w, (0, 1, 2)).swapaxes(3, 4))
    dw = lax.platform_dependent(x, dy, cpu=_sliced_weights, default=_stock_weights)
    return dx, dw


_conv.defvjp(_conv_forward, _conv_backward)


def _stock(x, w):
    numbers = ("NXYZC", "XYZIO", "NXYZC")
    return lax.conv_general_dilated(x[None], w, (1, 1, 1), "SAME", dimension_numbers=numbers)[0]


def _stock_weights(x, dy):
    shape = jax.ShapeDtypeStruct((3, 3, 3, x.shape[-1], dy.shape[-1]), x.dtype)
    return jax.linear_transpose(functools.partial(_stock, x), shape)(dy)[0]


def _combine(row, slices):
    """Linear combination of arrays; the coefficients are small constants, many of them zero."""
    terms = []
    for a, part in zip(row, slices, strict=True):
        if a:
            terms.append(part if a == 1 else -part if a == -1 else float(a) * part)
    return functools.reduce(jnp.add, terms)


def _plan(shape):
    """Tiles in one step and number of steps over a volume of this shape."""
    tiles = -(-shape[0] // _TILE)
    at_once = min(tiles, max(1, _STEP_VOXELS // (_TILE * shape[1] * shape[2])))
    return at_once, -(-tiles // at_once)


def _padded(x, tiles):
    """x with a slice of zeros before it and enough after it to fill the tiles."""
    behind = tiles * _TILE + 1 - x.shape[0]
    return jnp.pad(x, ((1, behind), (0, 0), (0, 0), (0, 0)))


def _tile_inputs(x, step, at_once):
    """B d for the tiles of one step: six arrays (at_once, Y, Z, C)."""
    size = at_once * _TILE
    part = lax.dynamic_slice_in_dim(x, step * size, size + 2, 0)
    last = (at_once - 1) * _TILE + 1
    slices = [lax.slice_in_dim(part, i, i + last, _TILE) for i in range(_READ)]
    return [_combine(row, slices) for row in _B]


def _conv2d(x, w):
    return lax.conv_general_dilated(
        x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _sliced(x, w):
    if math.prod(x.shape[:3]) <= _SMALL:
        return _stock(x, w)
    at_once, steps = _plan(x.shape)
    size = at_once * _TILE
    # float32 throughout: sums of slices would lose most of bfloat16's eight bits.
    padded = _padded(x, at_once * steps).astype(jnp.float32)
    kernels = [_combine(row, w.astype(jnp.float32)) for row in _G]

    def one_step(step, whole):
        products = [
            _conv2d(d, g) for d, g in zip(_tile_inputs(padded, step, at_once), kernels, strict=True)
        ]
        y = jnp.stack([_combine(row, products) for row in _A], axis=1).astype(x.dtype)
        y = y.reshape(size, *y.shape[2:])
        return lax.dynamic_update_slice_in_dim(whole, y, step * size, 0)

    # What the result is filled with is overwritten; a constant would be laid out long before.
    start = jnp.broadcast_to(x[0, 0, 0, 0], (steps * size, *x.shape[1:3], w.shape[-1]))
    return lax.fori_loop(0, steps, one_step, start)[: x.shape[0]]


def _correlate2d(x, dy):
    """Gradient of a 2-D convolution with respect to its kernel, (3, 3, C, F).

    dw[i, j] = sum_{y, z} x[y + i - 1, z + j - 1] dy[y, z], as one matrix product: the shifts along
    Y are laid beside x, those along Z (negated) beside dy.
    """
    features, filters = x.shape[-1], dy.shape[-1]
    height, width = x.shape[1:3]
    tall = jnp.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0)))
    wide = jnp.pad(dy, ((0, 0), (0, 0), (1, 1), (0, 0)))
    left = jnp.concatenate([tall[:, i : i + height] for i in range(3)], axis=-1)
    right = jnp.concatenate([wide[:, :, 2 - j : 2 - j + width] for j in range(3)], axis=-1)
    product = left.reshape(-1, 3 * features).T @ right.reshape(-1, 3 * filters)
    return product.reshape(3, features, 3, filters).swapaxes(1, 2)


def _sliced_weights(x, dy):
    if math.prod(x.shape[:3]) <= _SMALL:
        return _stock_weights(x, dy)
    at_once, steps = _plan(x.shape)
    padded = _padded(x, at_once * steps).astype(jnp.float32)
    size = at_once * _TILE
    gradient = jnp.pad(dy, ((0, steps * size - dy.shape[0]), (0, 0), (0, 0), (0, 0)))
    gradient = gradient.astype(jnp.float32)

    def one_step(total, step):
        part = lax.dynamic_slice_in_dim(gradient, step * size, size, 0)
        slices = [part[i::_TILE] for i in range(_TILE)]
        products = [
            _correlate2d(d, _combine(row, slices))
            for d, row in zip(_tile_inputs(padded, step, at_once), _A.T, strict=True)
        ]
        return [t + p for t, p in zip(total, products, strict=True)], None

    zero = jnp.zeros((3, 3, x.shape[-1], dy.shape[-1]))
    total, _ = lax.scan(one_step, [zero] * _READ, jnp.arange(steps))
    return jnp.stack([_combine(row, total) for row in _G.T]).astype(x.dtype)

"""The cascade: identity when untrained, composition, levels, transformations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.config import NetworkConfig
from jaxreg.network.cascade import cascade, init_level, level_displacement
from jaxreg.ops.deformation import compose, resize_displacement, warp
from jaxreg.ops.pyramid import halve

pytestmark = pytest.mark.usefixtures("quick_compilation")

CONFIG = NetworkConfig(grid=(16, 8, 12), levels=2, widths=(2, 3), convs=1)
STILL, MOVED = jnp.zeros(3), jnp.array([1.0, -0.5, 0.25])
run = jax.jit(cascade, static_argnums=3)


def _params(key, config=CONFIG, *, head):
    """Untrained levels whose last layer has the bias `head`, in voxels of each level."""
    keys = jax.random.split(key, config.levels)
    params = {f"level_{i + 1}": dict(init_level(k, config)) for i, k in enumerate(keys)}
    for tree in params.values():
        tree["head"] = {**tree["head"], "bias": head}
    return params


def _pair(key, shape=CONFIG.grid):
    fixed, moving = 300.0 * jax.random.normal(key, (2, *shape)) - 600.0
    return fixed, moving


@pytest.mark.parametrize("shape", [(16, 8, 12), (15, 9, 11)])
def test_untrained_cascade_is_nearly_the_identity(key, shape):
    u = run(_params(key, head=STILL), *_pair(key, shape), CONFIG)
    assert u.shape == (*shape, 3)
    assert float(jnp.abs(u).max()) < 0.2


def test_two_levels_by_hand(key):
    params = _params(key, head=0.7 * MOVED)
    fixed, moving = _pair(key)
    coarse = level_displacement(params["level_2"], halve(fixed), halve(moving), CONFIG)
    u2 = resize_displacement(coarse, fixed.shape)
    u1 = level_displacement(params["level_1"], fixed, warp(moving, u2), CONFIG)
    expected = compose(u2, u1)
    np.testing.assert_allclose(run(params, fixed, moving, CONFIG), expected, atol=1e-5)
    coarser = {"level_2": params["level_2"]}
    np.testing.assert_allclose(run(coarser, fixed, moving, CONFIG), u2, atol=1e-5)


def test_vectors_grow_with_the_grid(key):
    # only the head's bias acts: level 2 moves by one voxel of its own grid, two of the network's
    params = _params(key, head=MOVED)
    for tree in params.values():
        tree["head"]["kernel"] = jnp.zeros_like(tree["head"]["kernel"])
    u = run(params, *_pair(key, (15, 9, 11)), CONFIG)
    expected = np.broadcast_to([3.0, -1.5, 0.75], u.shape)
    np.testing.assert_allclose(u, expected, atol=1e-5)


def test_jit_vmap_and_grad(key):
    params = _params(key, head=0.3 * MOVED)
    one, two = _pair(key), _pair(jax.random.fold_in(key, 1))
    alone = [run(params, *pair, CONFIG) for pair in (one, two)]
    batched = jax.jit(jax.vmap(lambda f, m: cascade(params, f, m, CONFIG)))(
        jnp.stack([one[0], two[0]]), jnp.stack([one[1], two[1]])
    )
    np.testing.assert_allclose(batched, jnp.stack(alone), atol=1e-4)
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(cascade(p, *one, CONFIG) ** 2)))(params)
    for leaf in jax.tree.leaves(gradient):
        assert bool(jnp.all(jnp.isfinite(leaf))) and float(jnp.abs(leaf).max()) > 0.0


def test_levels_must_be_those_of_the_settings(key):
    params = _params(key, head=STILL)
    text = "params: expected the levels level_2 and down without a gap, got level_1. Load"
    with pytest.raises(ValueError, match=text):
        cascade({"level_1": params["level_1"]}, *_pair(key), CONFIG)
    with pytest.raises(ValueError, match="got none"):
        cascade({}, *_pair(key), CONFIG)


def test_images_must_share_a_grid(key):
    fixed, moving = _pair(key)
    text = r"expected one grid, got shapes \(16, 8, 12\) and \(15, 8, 12\)"
    with pytest.raises(ValueError, match=text):
        cascade(_params(key, head=STILL), fixed, moving[1:], CONFIG)


def test_program_for_a_gpu_has_no_scatter_loop_or_host_call(key):
    def step(params, fixed, moving):
        def loss(params):
            coarse = jax.lax.stop_gradient(cascade({"level_2": frozen}, fixed, moving, CONFIG))
            v = level_displacement(params, fixed, warp(moving, coarse), CONFIG)
            return jnp.mean((warp(moving, compose(coarse, v)) - fixed) ** 2)

        return jax.value_and_grad(loss)(params)

    frozen = _params(key, head=STILL)["level_2"]
    exported = jax.export.export(jax.jit(step), platforms=("cuda",))
    text = exported(frozen, *_pair(key)).mlir_module()
    assert "stablehlo.convolution" in text
    for absent in ("stablehlo.scatter", "stablehlo.while", "stablehlo.custom_call"):
        assert absent not in text

"""The cascade of least squares: hand-made at the start, gradients, odd grids, hard inputs."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from jaxreg.config import Config, LossConfig, NetworkConfig, TrainingConfig
from jaxreg.engine import multigrid
from jaxreg.network import least_squares
from jaxreg.network.cascade import cascade, init_level
from jaxreg.network.features import Channels, FeatureNet, hand_made
from jaxreg.network.least_squares import improve, solve_differentiable
from jaxreg.ops import symmetric
from jaxreg.ops.deformation import transform_points
from jaxreg.training.loop import initial_state, make_step, make_validation
from jaxreg.training.losses import Example

CONFIG = NetworkConfig(
    grid=(24, 16, 20),
    architecture="least_squares",
    levels=1,
    widths=(4,),
    channels=3,
    window=(-1000.0, 0.0),
)
TWO = dataclasses.replace(CONFIG, levels=2, rounds=(1, 2))
SPACING = np.array([3.0, 4.0, 2.5], np.float32)
compiled = jax.jit(cascade, static_argnums=3)


def run(params, fixed, moving, config=CONFIG, *, mask=1.0, spacing_mm=SPACING):
    """The cascade, with arguments of one kind, so that the tests share its programs."""
    mask = np.broadcast_to(np.float32(mask), fixed.shape)
    return compiled(params, fixed, moving, config, mask=mask, spacing_mm=spacing_mm)


def smooth_noise(seed, shape, size=1.5):
    noise = np.random.default_rng(seed).normal(size=shape)
    return scipy.ndimage.gaussian_filter(noise, size, mode="nearest")


def moved_pair(seed, shape=CONFIG.grid):
    """An image, and the same moved by a smooth field of about a voxel."""
    texture = smooth_noise(seed, shape)
    fixed = 300.0 * texture / texture.std() - 500.0
    places = np.stack(np.indices(shape)).astype(float)
    moving = scipy.ndimage.map_coordinates(
        fixed, places + motion_of(seed, shape), order=1, mode="nearest"
    )
    return fixed.astype(np.float32), moving.astype(np.float32)


def motion_of(seed, shape):
    """The moving voxel x is the fixed point x + motion(x), (3, X, Y, Z)."""
    bumps = np.stack([smooth_noise(seed + 10 * axis + 1, shape, 6.0) for axis in range(3)])
    return 0.6 * bumps / bumps.std()


def striped_example(seed):
    """A pair of which the moving image has stripes, and its ground truth at all inner voxels."""
    shape = CONFIG.grid
    fixed, moving = moved_pair(seed, shape)
    stripes = 250.0 * np.sin(0.9 * np.arange(shape[0]) + seed)[:, None, None]
    inner = np.zeros(shape, bool)
    inner[4:-4, 4:-4, 4:-4] = True
    points = np.argwhere(inner).astype(np.float32)
    ones = np.ones((*shape, 1), np.float32)
    return Example(
        fixed=fixed,
        moving=moving + stripes.astype(np.float32),
        mask=ones[..., 0],
        fixed_labels=ones,
        moving_labels=ones,
        fixed_keypoints=points + motion_of(seed, shape)[:, inner].T.astype(np.float32),
        moving_keypoints=points,
        keypoint_weights=np.ones(len(points), np.float32),
        spacing_mm=SPACING,
    )


def error_voxels(u, seed):
    """Mean error of u at fixed points whose motion is known, and their mean motion."""
    inner = (slice(None), *(slice(4, -4),) * 3)
    moving = np.stack(np.indices(u.shape[:3]))[inner].reshape(3, -1).T
    fixed = moving + motion_of(seed, u.shape[:3])[inner].reshape(3, -1).T
    found = transform_points(u, fixed.astype(np.float32))
    return [np.linalg.norm(x - moving, axis=1).mean() for x in (found, fixed)]


def levels(key, config=CONFIG):
    """Untrained levels; of CONFIG, whose networks are those of `config` too, for one program."""
    learned = range(config.by_hand + 1, config.levels + 1)
    return {f"level_{n}": init_level(jax.random.fold_in(key, n), CONFIG) for n in learned}


def perturbed(tree, seed=0, size=0.05):
    """The same with every entry moved, so that the correction and the confidences act."""
    leaves, structure = jax.tree.flatten(tree)
    rng = np.random.default_rng(seed)
    moved = [leaf + size * rng.normal(size=leaf.shape).astype(np.float32) for leaf in leaves]
    return jax.tree.unflatten(structure, moved)


def test_a_head_of_zeros_leaves_the_hand_made_channel(key):
    fixed, _ = moved_pair(0)
    tree = dict(init_level(key, CONFIG))
    tree["head"] = jax.tree.map(jnp.zeros_like, tree["head"])
    found = FeatureNet(CONFIG).apply({"params": tree}, fixed)
    expected = hand_made(fixed, config=CONFIG)
    np.testing.assert_array_equal(found.values[..., :1], expected.values)
    np.testing.assert_array_equal(found.values[..., 1:], 0.0)
    np.testing.assert_array_equal(found.logits, 0.0)


def test_untrained_levels_move_as_hand_made_ones(key):
    """Levels with heads of zeros against levels without networks, the finest of both by hand."""
    fixed, moving = moved_pair(1)
    params = jax.tree.map(jnp.zeros_like, levels(key, TWO))
    zeroed = run(params, fixed, moving, TWO)
    expected = run(
        {"level_2": params["level_2"]}, fixed, moving, dataclasses.replace(TWO, by_hand=1)
    )
    np.testing.assert_allclose(zeroed, expected, atol=1e-5)
    assert np.abs(expected).max() > 0.2


@pytest.mark.parametrize(
    "setting", [{"noise_hu": 200.0}, {"radius": 1}, {"damping": 1.0}, {"longest_step": 0.1}]
)
def test_settings_of_a_round_change_its_step(setting):
    fixed, moving = moved_pair(1, (12, 8, 10))
    mask, start, spacing = jnp.ones((12, 8, 10)), jnp.zeros((3, 6, 4, 5)), jnp.array(SPACING)

    def step_mm(config):
        channels = [hand_made(image, config=config) for image in (fixed, moving)]
        return improve(*channels, mask, start, spacing_mm=spacing, config=config)

    step = step_mm(dataclasses.replace(CONFIG, **setting))
    assert np.abs(step - step_mm(CONFIG)).max() > 0.01
    if "longest_step" in setting:
        lengths = np.linalg.norm(step / (2 * SPACING[:, None, None, None]), axis=0)
        assert np.isclose(lengths.max(), 0.1, rtol=1e-3)


def test_settings_of_the_channels_bound_what_is_learned(key):
    image, _ = moved_pair(1, (12, 8, 10))
    config = dataclasses.replace(CONFIG, most_logit=0.5)
    tree = perturbed(init_level(key, CONFIG), size=0.5)
    assert 0.4 < np.abs(FeatureNet(config).apply({"params": tree}, image).logits).max() <= 0.5
    assert np.abs(FeatureNet(CONFIG).apply({"params": tree}, image).logits).max() > 0.5
    heads = [
        init_level(key, dataclasses.replace(CONFIG, faint=faint))["head"]["kernel"]
        for faint in (0.3, 1.2)
    ]
    np.testing.assert_allclose(heads[1], 2.0 * heads[0], rtol=1e-6)


def test_it_finds_motion(key):
    fixed, moving = moved_pair(2)
    error, motion = error_voxels(run(levels(key), fixed, moving), 2)
    assert motion > 0.4
    assert error < 0.4 * motion


@pytest.mark.parametrize("name", ["a", "b", "u"])
def test_gradient_of_the_solution_by_finite_differences(key, name):
    shape, rng = (6, 8, 4), np.random.default_rng(3)
    slopes = rng.normal(size=(2, 3, *shape)).astype(np.float32)
    inputs = {
        "a": sum(symmetric.outer(s) for s in slopes) + 0.5 * symmetric.IDENTITY,
        "b": jnp.asarray(rng.normal(size=(3, *shape)), jnp.float32),
        "u": jnp.asarray(rng.normal(size=(3, *shape)), jnp.float32),
    }
    target = rng.normal(size=(3, *shape)).astype(np.float32)
    direction = rng.normal(size=inputs[name].shape).astype(np.float32)

    def loss(value):
        parts = inputs | {name: value}
        weight, spacing = jnp.float32(4.0), jnp.array([2.0, 1.5, 3.0])
        v = solve_differentiable(parts["a"], parts["b"], parts["u"], weight, spacing)
        return jnp.sum(target * v)

    found = jnp.sum(jax.grad(loss)(inputs[name]) * direction)
    step = 2e-3
    ends = [loss(inputs[name] + sign * step * direction) for sign in (1, -1)]
    np.testing.assert_allclose(found, (ends[0] - ends[1]) / (2 * step), rtol=0.02, atol=0.02)


def test_gradient_through_a_round_by_finite_differences(monkeypatch):
    """With respect to the parameters, through channels, normal equations and solution.

    The derivative is that of the exact solution, so the solver is given the steps to converge. The
    differences of 32-bit numbers are known to 0.01, the slopes are 0.3 to 9.
    """
    converged = functools.partial(multigrid.solve, steps=(300, 300, 300))
    monkeypatch.setattr(least_squares, "solve", converged)
    fixed, moving = moved_pair(4, (12, 8, 10))
    tree = init_level(jax.random.key(0), CONFIG)
    direction = perturbed(jax.tree.map(jnp.zeros_like, tree), seed=1)
    net = FeatureNet(CONFIG)
    target = np.random.default_rng(5).normal(size=(3, 6, 4, 5)).astype(np.float32)

    def loss(tree):
        channels = [net.apply({"params": tree}, image) for image in (fixed, moving)]
        start = jnp.zeros((3, 6, 4, 5))
        u = improve(
            *channels, jnp.ones((12, 8, 10)), start, spacing_mm=jnp.array(SPACING), config=CONFIG
        )
        return jnp.sum(target * u)

    value_and_slope, step = jax.jit(jax.value_and_grad(loss)), 0.00125
    for seed in range(3):
        tree = perturbed(init_level(jax.random.key(seed), CONFIG))
        _, slope = value_and_slope(tree)
        products = jax.tree.map(lambda g, d: jnp.sum(g * d), slope, direction)
        found = sum(jax.tree.leaves(products))
        ends = [
            value_and_slope(jax.tree.map(lambda a, d, s=sign: a + s * step * d, tree, direction))[0]
            for sign in (1, -1)
        ]
        np.testing.assert_allclose(found, (ends[0] - ends[1]) / (2 * step), rtol=0.01, atol=0.02)


def test_a_grid_that_is_odd(key):
    shape = (23, 17, 19)
    fixed, moving = moved_pair(6, shape)
    u = run(levels(key, TWO), fixed, moving, TWO)
    assert u.shape == (*shape, 3)
    error, motion = error_voxels(u, 6)
    assert error < 0.6 * motion


def test_only_the_ratios_of_the_spacing_count(key):
    fixed, moving = moved_pair(6)
    params = levels(key)
    u = run(params, fixed, moving)
    scaled = run(params, fixed, moving, spacing_mm=10 * SPACING)
    np.testing.assert_allclose(scaled, u, atol=1e-3)
    other = run(params, fixed, moving, spacing_mm=np.array([3, 4, 10], np.float32))
    assert float(jnp.abs(other - u).max()) > 1e-2


def test_identical_images_do_not_move(key):
    fixed, _ = moved_pair(7)
    np.testing.assert_array_equal(run(perturbed(levels(key)), fixed, fixed), 0.0)


@jax.jit
@functools.partial(jax.value_and_grad, has_aux=True)
def squares_and_gradient(params, fixed, moving, mask):
    """Sum of the squared displacement, and the displacement; the gradient of the sum."""
    u = cascade(params, fixed, moving, CONFIG, mask=mask)
    return jnp.sum(u**2), u


@pytest.mark.parametrize("case", ["flat", "one flat", "no lungs", "far outside"])
def test_hard_inputs_give_finite_fields_and_gradients(key, case):
    fixed, moving = moved_pair(8)
    mask = np.ones(CONFIG.grid, np.float32)
    if case == "flat":
        fixed = moving = np.full(CONFIG.grid, -800.0, np.float32)
    elif case == "one flat":
        moving = np.full(CONFIG.grid, -800.0, np.float32)
    elif case == "no lungs":
        mask = np.zeros(CONFIG.grid, np.float32)
    else:
        moving = np.full(CONFIG.grid, 3000.0, np.float32)
    (_, u), gradient = squares_and_gradient(perturbed(levels(key)), fixed, moving, mask)
    assert bool(jnp.isfinite(u).all())
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradient))
    if case in ("flat", "no lungs"):
        np.testing.assert_array_equal(u, 0.0)


def test_what_lies_outside_of_the_mask_does_not_count(key):
    fixed, moving = moved_pair(9)
    mask = np.zeros(CONFIG.grid, np.float32)
    mask[4:-4, 4:-4, 4:-4] = 1.0
    channels = [hand_made(image, config=CONFIG) for image in (fixed, moving)]
    start, spacing = jnp.zeros((3, 12, 8, 10)), jnp.array(SPACING)
    garbled = Channels(channels[0].values + 5.0 * (mask[..., None] == 0), channels[0].logits)
    # the slopes of the middle reach one voxel beyond the mask
    inner = scipy.ndimage.binary_erosion(mask).astype(np.float32)
    step = jax.jit(functools.partial(improve, config=CONFIG))
    first = step(*channels, inner, start, spacing_mm=spacing)
    second = step(garbled, channels[1], inner, start, spacing_mm=spacing)
    np.testing.assert_allclose(first, second, atol=1e-4)
    assert float(jnp.abs(first).max()) > 0.1


@pytest.mark.slow
def test_a_short_training_lowers_the_error_of_pairs_that_are_not_trained_on():
    """Stripes in one image disturb the hand-made channel; they can be unlearnt."""
    off = dict.fromkeys(("similarity", "smoothness", "masks", "volume"), 0.0)
    config = Config(
        network=dataclasses.replace(CONFIG, widths=(8,)),
        loss=LossConfig(**off, keypoints=(0.0,), volume_threshold=(0.1,), distance=1.0),
        training=TrainingConfig(steps=(60,), batch=(1,), blocks=(1,), learning_rate=5e-3),
    )
    batches = [
        jax.tree.map(lambda *a: np.stack(a), *map(striped_example, seeds))
        for seeds in ((0,), (1,), (2,), (3,), (4,), (5,))
    ]
    held_out = [striped_example(seed) for seed in (100, 101)]
    measure = make_validation(config, 1)

    def error_mm(params):
        return np.mean([measure(params, {}, example)["tre_mm"] for example in held_out])

    state = initial_state(config, 1)
    before = error_mm(state.params)
    step = make_step(config, 1, augmented=False)
    for index in range(60):
        state, _ = step(state, {}, batches[index % 6])
    assert error_mm(state.params) < 0.85 * before


def test_a_field_of_short_waves_is_found_better_than_with_one_weight_for_all():
    shape = CONFIG.grid
    places = np.stack(np.indices(shape), axis=-1).astype(np.float32)
    motion = 0.8 * np.sin(2 * np.pi * places[..., [1, 2, 0]] / 14.0)
    texture = smooth_noise(3, shape)
    fixed = (300.0 * texture / texture.std() - 500.0).astype(np.float32)
    ends = places + motion  # of the moving voxels, in the fixed image
    moving = scipy.ndimage.map_coordinates(fixed, np.moveaxis(ends, -1, 0), order=3, mode="nearest")
    params = {"level_1": init_level(jax.random.key(0), CONFIG)}
    params = jax.tree.map(jnp.zeros_like, params)
    inner = (slice(3, -3),) * 3
    errors = []
    for balance in (50.0, 0.0):
        config = dataclasses.replace(CONFIG, rounds=(6,), balance=balance)
        u = run(params, fixed, moving, config, spacing_mm=np.ones(3, np.float32))
        left = transform_points(u, ends[inner].reshape(-1, 3)) - places[inner].reshape(-1, 3)
        errors.append(np.linalg.norm(left, axis=-1).mean())
    assert errors[0] < 0.9 * errors[1], errors

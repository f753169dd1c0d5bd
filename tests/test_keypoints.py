"""Keypoints against explicit loops, closed forms and displacements that are known."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxreg.config import KeypointConfig
from jaxreg.engine.descriptors import mind_ssc
from jaxreg.engine.keypoints import detect, distinctiveness, find_keypoints
from jaxreg.engine.matching import choose, displacement_costs, exchange, graph

SHAPE = (52, 44, 48)
SPACING = (1.5, 2.0, 1.8)
MASK = np.zeros(SHAPE, bool)
MASK[5:-5, 5:-5, 5:-5] = True
RANDOM = np.random.default_rng(0)


def texture(points, *, seed=0):
    """A smooth random image in HU of structures of some 6 mm, at any points (..., 3) in voxels."""
    noise = np.random.default_rng(seed).normal(size=(80, 80, 80))
    smooth = ndimage.gaussian_filter(noise, 1.5)
    places = np.moveaxis(points, -1, 0) + 14.0
    image = -700 + 150 * ndimage.map_coordinates(smooth / smooth.std(), places, order=3)
    return image.astype(np.float32)


GRID = np.stack(np.indices(SHAPE), axis=-1).astype(float)


def bend(points):
    """Displacement in voxels at any points: up to 11 mm, the largest part constant."""
    bump = np.sin(np.pi * points / (np.array(SHAPE) - 1)).prod(axis=-1, keepdims=True)
    return bump * np.array([2.0, -1.5, 2.0]) + np.array([-1.3, 2.2, 3.4])


def bent():
    """The image that shows at x + bend(x) what `texture` shows at x."""
    points = GRID
    for _ in range(30):
        points = GRID - bend(points)
    return texture(points)


@pytest.fixture(scope="module")
def pair():
    return texture(GRID), bent()


@pytest.fixture(scope="module")
def found(pair):
    return find_keypoints(*pair, MASK, spacing_mm=SPACING)


def errors_mm(points, matched):
    return np.linalg.norm((matched - points - bend(points)) * SPACING, axis=1)


def test_known_displacement_is_found_between_voxels(found):
    points, matched = found
    assert len(points) > 200
    error = errors_mm(points, matched)
    assert errors_mm(points, points).mean() > 6.0
    assert np.median(error) < 0.4
    assert np.percentile(error, 95) < 1.0


def test_translation_is_found(pair):
    step = np.array([2.3, -1.6, 4.7])
    moving = texture(GRID - step)
    points, matched = find_keypoints(pair[0], moving, MASK, spacing_mm=SPACING)
    error = np.linalg.norm((matched - points - step) * SPACING, axis=1)
    assert len(points) > 200
    assert np.median(error) < 0.3 and error.max() < 2.0


def test_points_that_do_not_lead_back_are_left_out(pair, found):
    """Half of the moving image shows something else: what is found there is no match."""
    moving = pair[1].copy()
    moving[SHAPE[0] // 2 :] = texture(GRID, seed=9)[SHAPE[0] // 2 :]
    points, matched = find_keypoints(pair[0], moving, MASK, spacing_mm=SPACING)
    spoiled = points[:, 0] > SHAPE[0] // 2 + 6
    of_all = np.sum(found[0][:, 0] > SHAPE[0] // 2 + 6)
    assert spoiled.sum() < 0.4 * of_all
    assert np.sum(~spoiled) > 0.6 * (len(found[0]) - of_all)
    sound = points[:, 0] < SHAPE[0] // 2 - 8
    assert np.median(errors_mm(points, matched)[sound]) < 0.6


def test_same_input_gives_the_same_bits(pair, found):
    again = find_keypoints(*pair, MASK, spacing_mm=SPACING)
    assert all(np.array_equal(a, b) for a, b in zip(found, again, strict=True))


@pytest.mark.parametrize("which", ["both", "fixed", "moving", "mask"])
def test_nothing_to_be_seen_gives_no_keypoint_and_no_nan(pair, which):
    flat = np.full(SHAPE, -1000.0, np.float32)
    fixed, moving = (
        flat if which in ("both", name) else image
        for name, image in zip(("fixed", "moving"), pair, strict=True)
    )
    mask = np.zeros(SHAPE, bool) if which == "mask" else MASK
    points, matched = find_keypoints(fixed, moving, mask, spacing_mm=SPACING)
    assert points.shape == matched.shape and np.all(np.isfinite(matched))
    assert len(points) == 0


def test_distinctiveness_is_that_of_the_structure_tensor(pair):
    image = pair[0][:9, :8, :7]
    slopes = [np.gradient(image.astype(float), axis=a) / SPACING[a] for a in range(3)]
    tensor = np.zeros((*image.shape, 3, 3))
    for i, j in itertools.product(range(3), repeat=2):
        tensor[..., i, j] = slopes[i] * slopes[j]
        for axis in [0, 1, 2] * 2:
            weights = np.array([1, 2, 1]) / 4
            tensor[..., i, j] = ndimage.correlate1d(
                tensor[..., i, j], weights, axis=axis, mode="nearest"
            )
    expected = 1 / np.trace(np.linalg.inv(tensor), axis1=-2, axis2=-1)
    found = distinctiveness(jnp.asarray(image), jnp.asarray(SPACING, jnp.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-2, atol=1e-3 * expected.max())


def test_blobs_are_detected_but_neither_tubes_nor_planes():
    image = np.full(SHAPE, -800.0)
    centres = np.array([[12, 10, 12], [34, 30, 14], [14, 30, 34]])
    for centre in centres:
        image += 500 * np.exp(-np.sum((GRID - centre) ** 2, axis=-1) / 4)
    image += 500 * np.exp(-np.sum((GRID[..., :2] - [34, 12]) ** 2, axis=-1) / 4)  # along z
    points = detect(image.astype(np.float32), MASK, spacing_mm=SPACING)
    near = np.linalg.norm(points[:, None] - centres[None], axis=-1)
    assert np.all(near.min(axis=0) < 3.5) and np.all(near.min(axis=1) < 7)


def test_keypoints_are_distributed_evenly_and_stay_in_the_mask(pair):
    image = pair[0].copy()
    image[26:] = -700 + 5 * (image[26:] + 700)  # the better half must not take all
    points = detect(image, MASK, spacing_mm=SPACING, config=KeypointConfig(count=200))
    assert len(points) == 200
    assert np.all(MASK[tuple(points.T)])
    assert 0.4 < np.mean(points[:, 0] < 26) < 0.6


def test_mind_equals_loop():
    image = RANDOM.normal(-700, 100, (6, 5, 7))
    padded = np.pad(image, 1, mode="edge")
    steps = [s * np.eye(3, dtype=int)[a] for s in (1, -1) for a in range(3)]
    mind_pairs = [(a, b) for a, b in itertools.combinations(steps, 2) if np.sum((a - b) ** 2) == 2]
    expected = np.zeros((12, *image.shape))
    for voxel in np.ndindex(image.shape):
        for c, (a, b) in enumerate(mind_pairs):
            window = [slice(max(0, i - 1), i + 2) for i in voxel]  # cut off at the border
            squares = [
                (padded[tuple(np.add(x, 1) + a)] - padded[tuple(np.add(x, 1) + b)]) ** 2
                for x in itertools.product(
                    *(range(*s.indices(n)) for s, n in zip(window, image.shape, strict=True))
                )
            ]
            expected[(c, *voxel)] = np.mean(squares)
    expected -= expected.min(axis=0)
    expected = np.exp(-expected / (expected.mean(axis=0) + 200.0))
    found = mind_ssc(jnp.asarray(image, jnp.float32))
    assert found.shape == (12, *image.shape)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_mind_does_not_change_with_brightness_and_hardly_with_contrast(pair):
    image = jnp.asarray(pair[0][:6, :5, :7])
    np.testing.assert_allclose(mind_ssc(image + 100), mind_ssc(image), atol=1e-3)
    assert np.abs(mind_ssc(1.3 * image) - mind_ssc(image)).mean() < 0.02


def test_costs_equal_loop_also_at_the_border():
    f, m = RANDOM.normal(size=(2, 3, 7, 6, 8)).astype(np.float32)
    centre = np.array([[3, 2, 4], [0, 5, 7]], np.int32)
    start = np.array([[2, 3, 4], [6, 0, 1]], np.int32)
    radius, patch = (2, 1, 3), 1
    costs = displacement_costs(f, m, centre, start, radius=radius, patch=patch)
    f, m = (np.pad(a, [(0, 0), *[(8, 8)] * 3], mode="edge") for a in (f, m))

    def window(image, x):
        return image[(slice(None), *(slice(i + 8 - patch, i + 9 + patch) for i in x))]

    for n, d in itertools.product(range(2), np.ndindex(costs.shape[1:])):
        other = window(m, start[n] + d - np.array(radius))
        expected = np.mean((window(f, centre[n]) - other) ** 2)
        assert costs[(n, *d)] == pytest.approx(expected, rel=1e-3)


def test_exchange_equals_loop():
    config = KeypointConfig()
    costs = RANDOM.uniform(size=(3, 3, 2, 4)).astype(np.float32)
    neighbours = np.array([[1, 2], [0, 2], [1, 0]])
    step_mm = np.array([20.0, 30.0, 40.0], np.float32)
    labels = np.stack(np.indices(costs.shape[1:]), -1).reshape(-1, 3) * step_mm
    apart = config.bending * np.sum((labels[:, None] - labels[None]) ** 2, axis=-1)
    belief = flat = costs.reshape(3, -1).astype(float)
    for _ in range(config.exchanges):
        message = np.min(belief[:, None] + apart[None], axis=2)
        message -= message.min(axis=1, keepdims=True)
        belief = flat + config.coupling * message[neighbours].mean(axis=1)
        belief /= 1 + config.coupling
    found = exchange(costs, neighbours, step_mm, config=config)
    np.testing.assert_allclose(found.reshape(3, -1), belief, rtol=1e-4)


def test_graph_fits_affine_maps_exactly_where_points_surround_and_is_finite_elsewhere():
    places = RANDOM.uniform(0, 60, (300, 3))
    web = graph(places, KeypointConfig())
    np.testing.assert_allclose(web.weights.sum(axis=1), 1, rtol=1e-5)
    assert np.array_equal(web.neighbours[:, 0], np.arange(300))
    values = places @ np.array([0.3, -0.2, 0.1]) + 5.0
    fitted = np.sum(web.weights * values[web.neighbours], axis=1)
    assert np.abs(fitted - values).mean() < 0.1 * np.abs(values - values.mean()).mean()
    for few in (places[:1], places[:2], np.zeros((40, 3))):
        assert np.all(np.isfinite(graph(few, KeypointConfig()).weights))


def test_choice_is_the_least_cost_between_the_steps():
    """Parabolic costs about known displacements, hardly tied to the fit around."""
    places = RANDOM.uniform(0, 40, (40, 3))
    step_mm = np.array([2.0, 3.0, 2.5], np.float32)
    truth = RANDOM.uniform(-1.4, 1.4, (40, 3)).astype(np.float32) * step_mm
    offset = np.tile(step_mm * [1, 0, -2], (40, 1)).astype(np.float32)
    labels = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3, indexing="ij"), -1) * step_mm
    apart = offset[:, None, None, None] + labels[None] - (offset + truth)[:, None, None, None]
    costs = np.sum(apart**2, axis=-1).astype(np.float32)
    d, v = choose(
        costs, offset, step_mm, offset, graph(places, KeypointConfig()), stiffness=(1e-6, 1e-6)
    )
    np.testing.assert_allclose(d, offset + truth, atol=2e-2)
    web = graph(places, KeypointConfig())
    np.testing.assert_allclose(
        v, np.einsum("nk,nki->ni", web.weights, d[web.neighbours]), atol=1e-4
    )
    stiff, _ = choose(costs, offset, step_mm, offset, web, stiffness=(1e-6, 1e3))
    assert np.abs(stiff - v).max() < 0.6 * step_mm.max()

"""Terms of the loss: explicit loops, closed forms, invariances, derivatives, and their balance."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from absl.testing import parameterized
from jax.test_util import check_grads

from jaxreg.config import LossConfig
from jaxreg.ops.deformation import warp
from jaxreg.training import losses

SHAPE = (7, 6, 5)
SPACING_MM = (1.0, 1.1, 2.5)
MM = np.array(SPACING_MM)
RANDOM = np.random.default_rng(4)
FIXED = RANDOM.normal(-700.0, 150.0, SHAPE).astype(np.float32)
WARPED = RANDOM.normal(-700.0, 150.0, SHAPE).astype(np.float32)
MASK = (RANDOM.uniform(size=SHAPE) < 0.6).astype(np.float32)
U = RANDOM.normal(size=(*SHAPE, 3)).astype(np.float32)
SHARES = RANDOM.dirichlet(np.ones(4), SHAPE)[..., :3].astype(np.float32)
OTHER_SHARES = RANDOM.dirichlet(np.ones(4), SHAPE)[..., :3].astype(np.float32)
EDGE = 40.0


def slope(image, x, axis):
    """Central difference per millimetre at one voxel, one-sided at the border."""
    low, high = list(x), list(x)
    low[axis], high[axis] = max(x[axis] - 1, 0), min(x[axis] + 1, image.shape[axis] - 1)
    difference = float(image[tuple(high)]) - float(image[tuple(low)])
    return difference / ((high[axis] - low[axis]) * SPACING_MM[axis])


def ngf_by_loop(warped, fixed, mask, edge):
    total = weight = 0.0
    for x in np.ndindex(fixed.shape):
        w = np.array([slope(warped, x, axis) for axis in range(3)])
        f = np.array([slope(fixed, x, axis) for axis in range(3)])
        product = (w @ f + edge**2) ** 2
        total += mask[x] * (1.0 - product / ((w @ w + edge**2) * (f @ f + edge**2)))
        weight += mask[x]
    return total / weight


def curvature_by_loop(u):
    u_mm = u.astype(np.float64) * MM
    values = []
    for x in np.ndindex(*(n - 2 for n in u.shape[:3])):
        x = np.array(x) + 1
        laplace = np.zeros(3)
        for axis in range(3):
            step = np.eye(3, dtype=int)[axis]
            second = u_mm[tuple(x + step)] - 2 * u_mm[tuple(x)] + u_mm[tuple(x - step)]
            laplace += second / SPACING_MM[axis] ** 2
        values.append(np.sum(laplace**2))
    return np.mean(values)


def psi(z, t):
    """Hering et al. 2021, eq. 6, for one number."""
    return (z - 1) ** 2 / z if z >= t else (1 - 1 / t**2) * z + 2 * (1 - t) / t


def make_example(seed=5, shape=SHAPE, keypoints=6):
    random = np.random.default_rng(seed)

    def smooth(*sizes):
        noise = random.normal(size=sizes)
        return scipy.ndimage.gaussian_filter(noise, [1.0] * 3 + [0.0] * (len(sizes) - 3))

    places = random.uniform(1.2, np.array(shape) - 2.2, (2, keypoints, 3))
    example = losses.Example(
        fixed=-700.0 + 500.0 * smooth(*shape),
        moving=-700.0 + 500.0 * smooth(*shape),
        mask=random.uniform(size=shape) < 0.6,
        fixed_labels=smooth(*shape, 2) ** 2,
        moving_labels=smooth(*shape, 2) ** 2,
        fixed_keypoints=places[0],
        moving_keypoints=places[1],
        keypoint_weights=np.ones(keypoints),
        spacing_mm=MM,
    )
    return jax.tree.map(lambda x: np.asarray(x, np.float32), example)


class Variants(parameterized.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_ngf_equals_loop(self):
        ngf = self.variant(lambda w, f, m: losses.ngf(w, f, m, spacing_mm=SPACING_MM, edge=EDGE))
        expected = ngf_by_loop(WARPED, FIXED, MASK, EDGE)
        assert 0.1 < expected < 0.9
        np.testing.assert_allclose(ngf(WARPED, FIXED, MASK), expected, rtol=1e-5)

    @chex.variants(with_jit=True, without_jit=True)
    def test_automatic_edge_equals_loop(self):
        length = [
            np.linalg.norm([slope(FIXED, x, axis) for axis in range(3)])
            for x in np.ndindex(SHAPE)
            if MASK[x]
        ]
        edge = self.variant(
            lambda f, m: losses.automatic_edge(f, m, spacing_mm=SPACING_MM, ratio=0.5)
        )
        np.testing.assert_allclose(edge(FIXED, MASK), 0.5 * np.mean(length), rtol=1e-5)

    @chex.variants(with_jit=True, without_jit=True)
    def test_curvature_equals_loop(self):
        curvature = self.variant(lambda u: losses.curvature(u, spacing_mm=SPACING_MM))
        np.testing.assert_allclose(curvature(U), curvature_by_loop(U), rtol=1e-5)

    @chex.variants(with_jit=True, without_jit=True)
    def test_volume_change_equals_loop(self):
        slopes = np.stack([np.gradient(U, axis=axis) for axis in range(3)], axis=-1)
        determinant = np.linalg.det(np.eye(3) + slopes.astype(np.float64))
        expected = np.mean([psi(z, 0.2) for z in determinant.ravel()])
        volume_change = self.variant(lambda u: losses.volume_change(u, threshold=0.2))
        np.testing.assert_allclose(volume_change(U), expected, rtol=1e-4)

    @chex.variants(with_jit=True, without_jit=True)
    def test_mask_ssd_equals_loop(self):
        expected = np.mean(
            [0.5 * np.sum((OTHER_SHARES[x] - SHARES[x]) ** 2) for x in np.ndindex(SHAPE)]
        )
        value = self.variant(losses.mask_ssd)(OTHER_SHARES, SHARES)
        np.testing.assert_allclose(value, expected, rtol=1e-5)

    @chex.variants(with_jit=True, without_jit=True)
    def test_keypoint_equals_loop(self):
        fixed = np.array([[1.0, 2.0, 3.0], [4.5, 0.5, 1.25], [0.0, 0.0, 0.0]], np.float32)
        moving = np.array([[2.0, 2.5, 1.0], [4.0, 3.0, 1.0], [9.0, 9.0, 9.0]], np.float32)
        squared = []
        for p, q in zip(fixed[:2], moving[:2], strict=True):
            displacement = [
                scipy.ndimage.map_coordinates(U[..., c], p[:, None], order=1)[0] for c in range(3)
            ]
            squared.append(np.sum(((p + displacement - q) * MM) ** 2))
        keypoint = self.variant(lambda u, w: losses.keypoint(u, fixed, moving, w, spacing_mm=MM))
        weights = np.array([1.0, 3.0, 0.0], np.float32)  # the last one only fills up the array
        expected = (squared[0] + 3 * squared[1]) / 4
        np.testing.assert_allclose(keypoint(U, weights), expected, rtol=1e-5)


ngf = jax.jit(lambda w, f, m=MASK, edge=EDGE: losses.ngf(w, f, m, spacing_mm=SPACING_MM, edge=edge))


def test_ngf_of_an_image_with_itself_is_zero():
    np.testing.assert_allclose(ngf(FIXED, FIXED), 0.0, atol=1e-6)


@pytest.mark.parametrize(("gain", "offset"), [(1.0, 30.0), (0.25, 0.0), (-1.0, 0.0), (-3.0, 500.0)])
def test_ngf_sees_edges_not_intensities(gain, offset):
    """With an edge parameter that is small beside the gradients: gain, offset and sign drop out."""
    small = 1e-3
    np.testing.assert_allclose(ngf(gain * FIXED + offset, FIXED, MASK, small), 0.0, atol=1e-5)
    reference = ngf(WARPED, FIXED, MASK, small)
    np.testing.assert_allclose(
        ngf(gain * WARPED + offset, FIXED, MASK, small), reference, rtol=1e-4
    )


def test_ngf_of_perpendicular_edges_is_one():
    i, j, _ = 1000.0 * np.indices(SHAPE, dtype=np.float32)
    np.testing.assert_allclose(ngf(i, j, MASK, 1e-3), 1.0, atol=1e-5)


def test_ngf_below_the_edge_parameter_is_noise():
    assert float(ngf(WARPED, FIXED, MASK, 1e4)) < 0.01


def test_masked_voxels_get_no_gradient():
    """A voxel counts for its neighbours too: zero is due where none of them is in the mask."""
    mask = np.zeros(SHAPE, np.float32)
    mask[1:3, 1:4, 1:3] = 1.0
    reach = scipy.ndimage.binary_dilation(mask)
    gradient = np.asarray(jax.jit(jax.grad(ngf))(WARPED, FIXED, mask))
    np.testing.assert_array_equal(gradient[~reach], 0.0)
    assert np.count_nonzero(gradient[reach]) > 20


def test_curvature_of_an_affine_field_is_zero():
    u = np.moveaxis(np.indices(SHAPE), 0, -1) @ RANDOM.normal(size=(3, 3)) + 5.0
    value = losses.curvature(u.astype(np.float32), spacing_mm=SPACING_MM)
    np.testing.assert_allclose(value, 0.0, atol=1e-9)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("component", [0, 2])
def test_curvature_of_a_parabola_is_in_millimetres(axis, component):
    """u_c = 3 x_a^2 mm has Laplacian 6 / mm, whatever the spacing."""
    u = np.zeros((*SHAPE, 3), np.float32)
    x_mm = np.indices(SHAPE)[axis] * SPACING_MM[axis]
    u[..., component] = 3.0 * x_mm**2 / SPACING_MM[component]
    value = jax.jit(lambda u: losses.curvature(u, spacing_mm=SPACING_MM))(u)
    np.testing.assert_allclose(value, 36.0, rtol=1e-4)


@pytest.mark.parametrize("threshold", [0.05, 0.1, 0.2])
def test_volume_penalty(threshold):
    penalty = jax.jit(lambda z: losses.volume_penalty(z, threshold=threshold))
    z = np.linspace(-3.0, 4.0, 101, dtype=np.float32)
    expected = [psi(float(value), threshold) for value in z]
    np.testing.assert_allclose(penalty(z), expected, rtol=1e-4, atol=1e-5)
    # growth by z costs what shrinkage by 1/z costs
    grown = np.linspace(1.0, 1.0 / threshold - 0.01, 20, dtype=np.float32)
    np.testing.assert_allclose(penalty(grown), penalty(1.0 / grown), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("threshold", [0.05, 0.2])
def test_volume_penalty_and_its_slope_are_continuous(threshold):
    with jax.enable_x64(True):
        both = jax.jit(jax.value_and_grad(lambda z: losses.volume_penalty(z, threshold=threshold)))
        below, above = both(jnp.asarray(threshold - 1e-9)), both(jnp.asarray(threshold + 1e-9))
        np.testing.assert_allclose(below, above, rtol=1e-6)
        # folds and collapse: finite, and steeper than anything above the threshold
        for z in (0.0, -2.0, 1e-30):
            np.testing.assert_allclose(both(jnp.asarray(z))[1], 1.0 - 1.0 / threshold**2)


def test_volume_change_of_a_dilation():
    u = (0.1 * np.moveaxis(np.indices(SHAPE), 0, -1)).astype(np.float32)
    value = losses.volume_change(u, threshold=0.2)
    np.testing.assert_allclose(value, psi(1.1**3, 0.2), rtol=1e-4)


def all_terms(config, level):
    return jax.jit(
        jax.value_and_grad(
            lambda u, example: losses.total(u, example, config=config, level=level), has_aux=True
        )
    )


def test_total_is_the_weighted_sum():
    config = LossConfig(
        similarity=2.0,
        smoothness=0.3,
        masks=0.5,
        volume=0.7,
        keypoints=(0.0, 0.0, 0.11),
        lncc=0.2,
        diffusion=0.4,
    )
    total = jax.jit(lambda u, e: losses.total(u, e, config=config, level=3))
    loss, values = total(0.3 * U, make_example())
    factors = {
        "similarity": 2.0,
        "smoothness": 0.3,
        "masks": 0.5,
        "volume": 0.7,
        "keypoints": 0.11,  # of level 3, the last of three
        "lncc": 0.2,
        "diffusion": 0.4,
    }
    assert set(factors) == set(values)
    contributions = {name: factor * float(values[name]) for name, factor in factors.items()}
    assert min(contributions.values()) > 1e-4 * float(loss)  # a weight that is lost is noticed
    np.testing.assert_allclose(loss, sum(contributions.values()), rtol=1e-5)
    finest = jax.jit(lambda u, e: losses.total(u, e, config=config, level=1))
    loss, values = finest(0.3 * U, make_example())
    expected = sum(
        factor * float(values[name]) for name, factor in factors.items() if name != "keypoints"
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_terms_are_those_of_the_warped_images():
    example, u = make_example(), 0.3 * U
    terms = jax.jit(lambda u, e: losses.terms(u, e, config=LossConfig(edge=EDGE), level=2))(
        u, example
    )
    y = np.moveaxis(np.indices(SHAPE), 0, -1) + u
    inside = np.all((y >= 0) & (y <= np.array(SHAPE) - 1), axis=-1)
    assert 0 < np.sum(example.mask * ~inside)  # leaves the image: no part of the similarity
    warped = np.asarray(jax.jit(warp)(example.moving, u))
    labels = [jax.jit(warp)(example.moving_labels[..., k], u) for k in range(2)]
    expected = {
        "similarity": ngf_by_loop(warped, example.fixed, example.mask * inside, EDGE),
        "smoothness": curvature_by_loop(u),
        "volume": losses.volume_change(u, threshold=LossConfig().volume_threshold[1]),
        "masks": losses.mask_ssd(jnp.stack(labels, axis=-1), example.fixed_labels),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(terms[name], value, rtol=1e-4, err_msg=name)


def test_a_term_of_weight_zero_adds_nothing_not_even_nan():
    example = make_example()._replace(moving_keypoints=np.full((6, 3), np.nan, np.float32))
    (loss, values), gradient = all_terms(LossConfig(), 3)(0.3 * U, example)
    assert np.isnan(values["keypoints"])
    assert np.isfinite(loss) and np.all(np.isfinite(gradient))


VALUE_AND_GRADIENT = all_terms(LossConfig(keypoints=(1.0, 1.0, 1.0)), 1)


def flat(example):
    air = np.full(SHAPE, -1000.0, np.float32)
    return example._replace(fixed=air, moving=air)


def identical(example):
    return example._replace(moving=example.fixed, moving_labels=example.fixed_labels)


def no_mask(example):
    return example._replace(mask=np.zeros(SHAPE, np.float32))


def no_keypoints(example):
    return example._replace(keypoint_weights=np.zeros(6, np.float32))


def all_outside(example):
    return example._replace(moving=np.full(SHAPE, 50.0, np.float32))


@pytest.mark.parametrize(
    ("change", "shift"),
    [(flat, 0.0), (identical, 0.0), (no_mask, 0.0), (no_keypoints, 0.0), (all_outside, 100.0)],
)
def test_values_and_gradients_stay_finite(change, shift):
    example = change(make_example())
    u = np.full((*SHAPE, 3), shift, np.float32)
    (loss, values), gradient = VALUE_AND_GRADIENT(u, example)
    assert np.isfinite(loss) and np.all(np.isfinite(gradient)), values
    zero = {flat: "similarity", identical: "similarity", no_mask: "similarity"}
    zero |= {no_keypoints: "keypoints", all_outside: "similarity"}
    np.testing.assert_allclose(values[zero[change]], 0.0, atol=1e-6)


def test_gradient_with_respect_to_flat_images_is_finite():
    example = flat(make_example())
    u = np.zeros((*SHAPE, 3), np.float32)

    @jax.jit
    @jax.grad
    def gradient(images):
        changed = example._replace(fixed=images[0], moving=images[1])
        return losses.total(u, changed, config=LossConfig(), level=1)[0]

    for image in gradient((example.fixed, example.moving)):
        assert np.all(np.isfinite(image))


def test_derivatives_equal_finite_differences():
    """All terms at once, in double precision, each point away from the kinks at voxel planes."""
    with jax.enable_x64(True):
        example = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), make_example())
        fractions = RANDOM.uniform(0.2, 0.8, U.shape) - (RANDOM.uniform(size=U.shape) < 0.5)
        y = np.moveaxis(np.indices(SHAPE), 0, -1) + fractions
        on_edge = np.abs(y - np.clip(y, 0, np.array(SHAPE) - 1)) > 0
        u = jnp.asarray(np.where(on_edge, -fractions, fractions))
        config = LossConfig(keypoints=(0.02, 0.02, 0.02))
        terms = jax.jit(lambda u: losses.terms(u, example, config=config, level=3))
        check_grads(terms, (u,), order=1, modes="rev", rtol=1e-5, atol=1e-5)


def test_vmap_equals_one_by_one():
    examples = [make_example(seed) for seed in (5, 6)]
    fields = np.stack([0.3 * U, 0.2 * U])
    config = LossConfig()
    batch = jax.tree.map(lambda *leaves: np.stack(leaves), *examples)

    def total(u, example):
        return losses.total(u, example, config=config, level=1)[0]

    together = jax.jit(jax.vmap(total))(fields, batch)
    alone = jax.jit(total)
    for b in range(2):
        np.testing.assert_allclose(together[b], alone(fields[b], examples[b]), rtol=1e-5)

"""No term of the default loss drowns the others or is drowned by them."""

import jax
import jax.numpy as jnp
import nibabel
import numpy as np
import scipy.ndimage

from jaxreg.config import LossConfig
from jaxreg.training import losses

SPACING_MM = 6.0


def blob_pair():
    """Two ellipsoids of 'lung' with vessels in tissue, and the displacement between them."""
    shape = (28, 22, 26)
    x = np.stack(np.indices(shape), axis=-1) - np.array(shape) / 2
    u = 2.0 * np.sin(x @ np.array([[0, 0.1, 0.1], [0.1, 0, 0.1], [0.1, 0.1, 0]]))

    def image(points):
        lung = 1.0 / (1.0 + np.exp(12.0 * (np.linalg.norm(points / [10, 8, 11], axis=-1) - 0.9)))
        vessels = np.sin(points @ np.array([1.0, 0.7, 0.9])) * lung
        return -850.0 * lung + 200.0 * vessels, np.stack([lung, 1.0 - lung], axis=-1)[..., :1]

    # fixed(x) = moving(x + u(x)): the moving image is the simple one.
    (fixed, fixed_labels), (moving, moving_labels) = image(x + u), image(x)
    fixed_points = np.stack(np.indices(shape), axis=-1)[6:-6:2, 6:-6:2, 6:-6:2].reshape(-1, 3)
    moving_points = fixed_points + u[tuple(fixed_points.T)]
    return fixed, moving, fixed_labels, moving_labels, fixed_points, moving_points, u


def development_pair(folder):
    """A development pair on the box of its fixed lungs, and a quadratic fit of its landmarks."""
    files = {path.name: nibabel.load(path) for path in folder.glob("*.nii.gz")}
    arrays = {name: np.asarray(file.dataobj, np.float32) for name, file in files.items()}
    lungs = np.argwhere(arrays["fixed_labels.nii.gz"] > 0)
    world = files["fixed.nii.gz"].affine
    step = SPACING_MM / np.linalg.norm(world[:3, :3], axis=0)
    shape = tuple(int(n) for n in np.ceil(np.ptp(lungs, axis=0) / step) + 4)
    box = np.diag([*step, 1.0])
    box[:3, 3] = lungs.min(axis=0) - 1.5 * step
    affine = world @ box

    def on_box(name, values):
        matrix = np.linalg.inv(files[name].affine) @ affine
        sigma = np.linalg.norm(matrix[:3, :3], axis=0) / 2.4
        smooth = scipy.ndimage.gaussian_filter(values, sigma, truncate=2.0)
        return scipy.ndimage.affine_transform(
            smooth, matrix[:3, :3], matrix[:3, 3], shape, order=1, mode="nearest"
        )

    def image(name):
        return on_box(f"{name}.nii.gz", arrays[f"{name}.nii.gz"])

    def fractions(name):
        name = f"{name}_labels.nii.gz"
        kinds = [(arrays[name] == k).astype(np.float32) for k in (1, 2)]
        return np.stack([on_box(name, kind) for kind in kinds], axis=-1)

    points = np.genfromtxt(folder / "landmarks.csv", delimiter=",", skip_header=1)[:, 1:]
    points *= [-1, -1, 1, -1, -1, 1]  # LPS to RAS
    inverse = np.linalg.inv(affine)
    fixed, moving = (p @ inverse[:3, :3].T + inverse[:3, 3] for p in (points[:, :3], points[:, 3:]))

    def monomials(x):
        x = np.clip(x, fixed.min(axis=0), fixed.max(axis=0)) / np.array(shape)
        i, j, k = np.moveaxis(x, -1, 0)
        parts = [np.ones_like(i), i, j, k, i * i, j * j, k * k, i * j, i * k, j * k]
        return np.stack(parts, axis=-1)

    fit = np.linalg.lstsq(monomials(fixed), moving - fixed, rcond=None)[0]
    return (
        image("fixed"),
        image("moving"),
        fractions("fixed"),
        fractions("moving"),
        fixed,
        moving,
        monomials(np.stack(np.indices(shape), axis=-1).astype(float)) @ fit,
    )


def relative_pulls(fixed, moving, fixed_labels, moving_labels, fixed_points, moving_points, motion):
    """Weighted gradient of each term over the strongest, by level.

    Late in a training: 0.9 of the motion found, 0.1 voxel of roughness. (On a perfectly smooth
    field smoothness and volume change have no gradient, as they should.)
    """
    fixed, moving, fixed_labels, moving_labels, fixed_points, moving_points = (
        jnp.asarray(array, jnp.float32)
        for array in (fixed, moving, fixed_labels, moving_labels, fixed_points, moving_points)
    )
    example = losses.Example(
        fixed=fixed,
        moving=moving,
        mask=jnp.clip(jnp.sum(fixed_labels, axis=-1), 0.0, 1.0),
        fixed_labels=fixed_labels,
        moving_labels=moving_labels,
        fixed_keypoints=fixed_points,
        moving_keypoints=moving_points,
        keypoint_weights=jnp.ones(len(fixed_points)),
        spacing_mm=jnp.full(3, SPACING_MM),
    )
    config = LossConfig()
    rough = 0.1 * np.random.default_rng(0).normal(size=motion.shape)
    u = jnp.asarray(0.9 * motion + rough, jnp.float32)
    gradients = jax.jit(jax.jacrev(lambda u: losses.terms(u, example, config=config, level=1)))(u)
    lengths = {name: float(jnp.linalg.norm(gradient)) for name, gradient in gradients.items()}
    by_level = {}
    for level in (1, 2, 3):
        factors = losses.weights(config, level=level)
        pulls = {name: factors[name] * lengths[name] for name in lengths if factors[name]}
        by_level[level] = {name: pull / max(pulls.values()) for name, pull in pulls.items()}
    return by_level


def assert_balanced(by_level, weakest):
    """The bounds leave a third to the weakest term and half to the second strongest."""
    for level, pulls in by_level.items():
        ordered = sorted(pulls.values())
        assert ordered[0] > weakest, (level, pulls)
        assert ordered[-2] > 0.1, (level, pulls)
        assert {"similarity", "smoothness", "volume", "masks"} <= set(pulls)


def test_every_term_pulls_on_blobs():
    assert_balanced(relative_pulls(*blob_pair()), 1.5e-3)


def test_every_term_pulls_on_a_development_pair(shared):
    assert_balanced(relative_pulls(*development_pair(shared / "data" / "a0001_m3")), 5e-3)

"""The truth of a drawn pair takes the moving image to the fixed one: axes, signs and units."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_pairs import write_stills

from jaxreg.ops.deformation import target_points, transform_points, warp
from jaxreg.ops.interpolation import sample
from jaxreg.training import synthetic as stream
from jaxreg.training.anatomies import load_bank

GRID = (44, 30, 36)
SCANNER = ("KERNEL", "CONTRAST", "OFFSET_HU", "NOISE_HU", "CUT", "IDENTICAL")
EDGE = 3  # voxels at the faces of the frame that a field of view may leave out


@jax.jit
def inverse(v):
    """Displacement u of the inverse map, u(x) = -v(x + u(x)), by fixed-point iteration."""
    return jax.lax.fori_loop(0, 50, lambda _, u: -sample(v, target_points(u)), -v)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Pairs as a perfect scanner sees them, lungs of one density, and their u, fixed to moving."""
    bank = load_bank(write_stills(tmp_path_factory.mktemp("stills"), range(2)), level=1)
    motions = []

    def draw_breath(*arguments, **options):
        breath = drawer(*arguments, **options)
        motions.append(breath.v)
        return breath._replace(volume=jnp.ones_like(breath.volume))

    drawer = stream.draw_breath
    jax.clear_caches()  # the constants are compiled in
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "draw_breath", draw_breath)
        for name in SCANNER:
            patch.setattr(stream, name, 0.0)
        pairs = [stream.draw(jax.random.key(i), bank, grid=GRID, level=1) for i in range(4)]
    jax.clear_caches()
    fields = []
    for v in motions:  # v is on the moving grid
        u = inverse(v)
        assert float(jnp.abs(u + sample(v, target_points(u))).max()) < 1e-4
        fields.append(u)
    return list(zip(pairs, fields, strict=True))


def difference(pairs, change):
    """Mean difference in HU of the fixed image and the moving one warped by a changed truth."""
    found = []
    for pair, u in pairs:
        lungs = np.zeros(GRID, bool)
        lungs[EDGE:-EDGE, EDGE:-EDGE, EDGE:-EDGE] = True
        lungs &= np.asarray(pair.mask) > 0
        found.append(np.abs(warp(pair.moving, change(u)) - pair.fixed)[lungs].mean())
    return np.mean(found)


WRONG = {
    "no motion": lambda u: 0.0 * u,
    "other direction": lambda u: -u,
    "x and y changed": lambda u: u[..., (1, 0, 2)],
    "y and z changed": lambda u: u[..., (0, 2, 1)],
    "x and z changed": lambda u: u[..., (2, 1, 0)],
    "x reversed": lambda u: u * jnp.array([-1.0, 1.0, 1.0])[None, None, None],
    "y reversed": lambda u: u * jnp.array([1.0, -1.0, 1.0])[None, None, None],
    "z reversed": lambda u: u * jnp.array([1.0, 1.0, -1.0])[None, None, None],
    "twice as long": lambda u: 2.0 * u,
}


def test_spacings_are_unequal(drawn):
    assert all(np.ptp(pair.spacing_mm) > 1.0 for pair, _ in drawn)


@pytest.mark.parametrize("name", WRONG)
def test_the_true_field_aligns_the_images_and_a_wrong_one_does_not(drawn, name):
    """What remains is what interpolating twice costs: 20 of the 57 HU and more of a wrong field."""
    true = difference(drawn, lambda u: u)
    assert true < 25.0
    assert true < 0.5 * difference(drawn, WRONG[name])


def test_keypoints_lie_on_the_true_field(drawn):
    for pair, u in drawn:
        kept = np.asarray(pair.keypoint_weights) > 0
        error = transform_points(u, pair.fixed_keypoints) - pair.moving_keypoints
        assert np.abs(np.asarray(error)[kept]).max() < 0.25  # u is interpolated once more
        moved = np.abs(np.asarray(pair.fixed_keypoints - pair.moving_keypoints)[kept])
        assert moved.max() > 1.0

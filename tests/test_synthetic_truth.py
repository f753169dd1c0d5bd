"""Ground truth of synthetic pairs aligns moving with fixed images: axes, signs and units."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_pairs import write_anatomies

from jaxreg.config import SyntheticConfig
from jaxreg.ops.deformation import target_points, transform_points, warp
from jaxreg.ops.interpolation import sample
from jaxreg.training import synthetic
from jaxreg.training.anatomies import load_anatomies

pytestmark = pytest.mark.usefixtures("quick_compilation")

GRID = (44, 30, 36)
OFF = ("kernel", "contrast", "offset_hu", "noise_hu", "cut", "identical", "sliding", "binning")
CONFIG = SyntheticConfig(**dict.fromkeys(OFF, 0.0), lesion=0.0)
EDGE = 3  # voxels at the faces of the grid that a field of view may leave out


@jax.jit
def inverse(v):
    """Displacement u of the inverse map, u(x) = -v(x + u(x)), by fixed-point iteration."""
    return jax.lax.fori_loop(0, 200, lambda _, u: -sample(v, target_points(u)), -v)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory, quick_compilation):
    """Pairs as a perfect scanner sees them, lungs of one density, and their u, fixed to moving."""
    files = write_anatomies(tmp_path_factory.mktemp("anatomies"), range(2))
    anatomies = load_anatomies(files, level=1)
    motions = []

    def draw_motion(*arguments, **options):
        motion = drawer(*arguments, **options)
        motions.append(motion.v)
        return motion._replace(volume=jnp.ones_like(motion.volume))

    drawer = synthetic.draw_motion
    settings = {"grid": GRID, "level": 1, "config": CONFIG}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "draw_motion", draw_motion)
        pairs = [synthetic.draw(jax.random.key(i), anatomies, **settings) for i in range(4)]
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
        # u is interpolated once more, which costs most at the few points where it is steepest
        assert np.percentile(np.abs(np.asarray(error)[kept]), 99) < 0.25
        moved = np.abs(np.asarray(pair.fixed_keypoints - pair.moving_keypoints)[kept])
        assert moved.max() > 1.0

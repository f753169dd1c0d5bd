import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from jaxreg.ops.deformation import compose, resize_displacement
from jaxreg.ops.millimetres import compose_fields, millimetres_first, resize_field, voxels_last

SHAPE, SPACING = (9, 7, 6), jnp.array([1.5, 0.8, 2.0])


def displacement(seed):
    return jnp.asarray(np.random.default_rng(seed).uniform(-1, 1, (*SHAPE, 3)), jnp.float32)


def test_layout_and_units_change_and_come_back():
    u = displacement(0)
    field = millimetres_first(u, SPACING)
    assert field.shape == (3, *SHAPE)
    np.testing.assert_array_equal(field[1, 4, 5, 2], u[4, 5, 2, 1] * 0.8)
    np.testing.assert_allclose(voxels_last(field, SPACING), u, rtol=1e-6)


def test_composition_and_resizing_are_those_of_displacements():
    outer, inner = displacement(1), displacement(2)
    fields = (millimetres_first(u, SPACING) for u in (outer, inner))
    composed = voxels_last(compose_fields(*fields, SPACING), SPACING)
    np.testing.assert_allclose(composed, compose(outer, inner), atol=1e-5)
    assert np.abs(composed - compose(inner, outer)).max() > 0.1
    shape = (5, 11, 6)
    larger = resize_field(millimetres_first(outer, SPACING), shape)
    spacing = SPACING * jnp.array([n / m for n, m in zip(SHAPE, shape, strict=True)])
    np.testing.assert_allclose(
        voxels_last(larger, spacing), resize_displacement(outer, shape), atol=1e-5
    )


def test_composition_samples_the_outer_field_where_the_inner_one_leads():
    """v(x) + u(x + v(x)) in mm, u sampled by scipy."""
    random = np.random.default_rng(0)
    shape, spacing = (8, 7, 6), np.array([1.0, 2.0, 3.0])
    u, v = (random.uniform(-2.0, 2.0, (3, *shape)) for _ in range(2))  # mm
    points = np.indices(shape) + v / spacing[:, None, None, None]
    moved = [ndimage.map_coordinates(part, points, order=1, mode="nearest") for part in u]
    arguments = (jnp.asarray(array, jnp.float32) for array in (u, v, spacing))
    found = compose_fields(*arguments)
    np.testing.assert_allclose(found, v + np.stack(moved), atol=1e-5)

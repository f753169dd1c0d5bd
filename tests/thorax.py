"""A thorax in closed form: sampled on any grid, through any linear map, with known lungs."""

import numpy as np

from jaxreg.geometry.volume import Volume, transform

SPACING = (4.0, 4.4, 5.0)
SHAPE = (84, 68, 58)
RIGHT, LEFT = 1, 2


def grid(shape=SHAPE, spacing=SPACING):
    """Affine of a grid with axes along RAS, centred on the world's origin."""
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -(np.array(shape) - 1) / 2 * spacing
    return affine


def thorax(
    shape=SHAPE,
    affine=None,
    *,
    matrix=None,
    lung_hu=-850.0,
    consolidated=(),
    table=False,
    touching=False,
    noise=20.0,
):
    """CT in HU and labels of its lungs; `matrix` takes world points to those of the thorax."""
    affine = grid(shape) if affine is None else affine
    matrix = np.eye(4) if matrix is None else matrix
    indices = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1)
    x, y, z = np.moveaxis(transform(matrix @ affine, indices), -1, 0).astype(np.float32)

    def ball(centre, radii):
        axes = zip((x, y, z), centre, radii, strict=True)
        return sum(((a - c) / r) ** 2 for a, c, r in axes) < 1

    def tube(start, end, radius):
        step = np.subtract(end, start)
        offset = [a - s for a, s in zip((x, y, z), start, strict=True)]
        along = np.clip(sum(o * s for o, s in zip(offset, step, strict=True)) / (step @ step), 0, 1)
        return sum((o - along * s) ** 2 for o, s in zip(offset, step, strict=True)) < radius**2

    hu = np.full(shape, -1000.0)
    if table:
        hu[(np.abs(y + 128) < 14)] = -100.0
        hu[(np.abs(y + 128) < 9)] = -930.0
    hu[(x / 150) ** 2 + (y / 108) ** 2 < 1] = -80.0
    hu[(x / 140) ** 2 + (y / 98) ** 2 < 1] = 40.0
    hu[tube((0, -75, -300), (0, -75, 300), 15)] = 400.0
    labels = np.zeros(shape, np.uint8)
    labels[ball((66, 0, 0), (52, 78, 108)) & (z > -75 - 15 * np.cos(x / 30))] = RIGHT
    labels[ball((-66, 0, 0), (48, 78, 108)) & (z > -85 - 15 * np.cos(x / 30))] = LEFT
    if touching:
        bridge = (np.abs(x) < 20) & (np.abs(y - 40) < 4) & (np.abs(z) < 40)
        labels[bridge & (labels == 0) & (x >= 0)] = RIGHT
        labels[bridge & (labels == 0) & (x < 0)] = LEFT
    texture = 25 * (np.sin(x / 6) * np.sin(y / 7) + np.sin(y / 9) * np.sin(z / 8))
    hu = np.where(labels > 0, lung_hu + texture + 0.5 * y, hu)
    for side in (-1, 1):
        root = (18 * side, 0, 5)
        hu[tube((0, 0, 25), root, 7) & (labels == 0)] = -990.0
        for tip in ((70, 45, 60), (75, -45, 40), (80, 30, -60), (60, -40, -55)):
            hu[tube((25 * side, 0, 5), (tip[0] * side, *tip[1:]), 4)] = 30.0
    hu[ball((80, 0, 30), (9, 9, 9))] = 20.0  # a nodule
    hu[tube((0, 0, 20), (0, 0, 400), 9)] = -990.0  # trachea
    for side in consolidated:
        hu[labels == side] = 30.0
        labels[labels == side] = 0
    rng = np.random.default_rng(0)
    hu = hu + noise * rng.standard_normal(shape)
    return Volume(hu.astype(np.float32), affine), labels


def dice(a, b):
    """Dice coefficient of two masks."""
    return 2 * np.sum(a & b) / max(a.sum() + b.sum(), 1)

"""One scan of the phantom: a subject and its respiratory motion become a CT image and its lobes.

Everything is in anatomical coordinates (`jaxreg.phantom.motion`), mm.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import scipy.ndimage
from scipy.interpolate import CubicSpline

from jaxreg.geometry.lung_grid import AIR_HU
from jaxreg.phantom import anatomy, tissue, trees
from jaxreg.phantom.motion import Motion
from jaxreg.phantom.nodules import Body, paint_nodules

_LATTICE_MM = 6.0  # the maps are smooth: cubic splines through these nodes err by micrometres


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """What both scans of a pair have in common, in the inhaled state.

    Attributes:
        thorax: the shapes.
        texture: relative density of the lungs on a lattice (`phantom_tissue.parenchyma_hu`).
        inhale_hu, gravity_hu: mean density of lung tissue and its rise towards the back.
        fissure_mm: thickness of the fissures.
        vessels, airways: arteries and veins, and bronchi, lobe by lobe.
        trachea: with the main bronchi.
        lung_points: (N, 3) points spread evenly through the lungs.
    """

    thorax: anatomy.Thorax
    texture: np.ndarray
    inhale_hu: float
    gravity_hu: float
    fissure_mm: float
    vessels: tuple[trees.Tree, ...]
    airways: tuple[trees.Tree, ...]
    trachea: trees.Tree
    lung_points: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Scan:
    """How a scan is made.

    Attributes:
        axes: the voxel centres along x, y and z, mm.
        blur_mm: standard deviation of the point-spread function.
        noise_hu: standard deviation of the noise.
    """

    axes: tuple[np.ndarray, np.ndarray, np.ndarray]
    blur_mm: float
    noise_hu: float

    @property
    def spacing_mm(self) -> np.ndarray:
        """Voxel size (3,)."""
        return np.array([axis[1] - axis[0] for axis in self.axes])


def render(
    subject: Subject,
    motion: Motion | None,
    scan: Scan,
    rng: np.random.Generator,
    *,
    nodules: Sequence[Body] = (),
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the image and the lobes of one respiratory state.

    Args:
        subject: the anatomy, inhaled.
        motion: maps to the state; None for the inhaled one.
        scan: grid, blur and noise.
        rng: of the noise.
        nodules: where they lie in this state.

    Returns:
        Whole HU, float32, and labels of the lobes, int8, both (X, Y, Z).
    """
    thorax, axes = subject.thorax, scan.axes
    width = float(scan.spacing_mm.mean())
    x, y, z = np.meshgrid(*(a.astype(np.float32) for a in axes), indexing="ij")
    wall, content, volume = (x, y, z), (x, y, z), np.ones_like(x)
    if motion is not None:
        wall = _wall_points(motion, axes)
        inverse = _on_lattice(motion.content_inverse, axes)
        moved = _spread(inverse, axes)
        content = (x + moved[..., 0], y + moved[..., 1], z + moved[..., 2])
        volume = _spread(_determinant(inverse, axes)[..., None], axes)[..., 0]
    hu, cavity = _body(thorax, wall, width)
    within = cavity > 0.0
    fraction = cavity[within]
    inner = anatomy.Content(thorax, *anatomy.pick(content, within))
    soft = tissue.paint(hu[within], fraction, tissue.content_hu(inner, width))
    soft = tissue.paint_spine(thorax, soft, *anatomy.pick(wall, within), width)
    lung = np.minimum(tissue.cover(inner.lung, width), fraction)
    air = tissue.parenchyma_hu(
        inner,
        subject.texture,
        inhale_hu=subject.inhale_hu,
        gravity_hu=subject.gravity_hu,
        fissure_mm=(subject.fissure_mm, width),
    )
    air = (air + 1000.0) * volume[within] - 1000.0  # density times volume is kept
    hu[within] = tissue.paint(soft, lung, air)
    reach = np.zeros_like(hu)
    reach[within] = tissue.cover(inner.lung - 3.0, width)
    _paint_trees(hu, subject, motion, axes, reach)
    paint_nodules(hu, nodules, axes)
    lobes = np.zeros(hu.shape, np.int8)
    lobes[within] = np.where(inner.lung < 0.0, inner.lobes, 0)
    return _expose(hu, scan, rng), lobes


def _body(thorax, points, width):
    """Returns the HU of wall and spine (X, Y, Z), and the fraction of the cavity in each voxel."""
    x, y, _ = points
    height, exponent = thorax.cavity.height_mm, thorax.cavity.exponent
    levels = points[2][0, 0]
    inner = anatomy.section(thorax.cavity.profile, levels, height)
    out = anatomy.tube_distance(x, y, *inner, exponent)
    outer = anatomy.section(thorax.body, levels, height)
    depth = -anatomy.tube_distance(x, y, *outer, 2.3)
    hu = np.full(x.shape, tissue.AIR, np.float32)
    flesh = (depth > -width) & (out > -width)
    here = anatomy.pick(points, flesh)
    painted = tissue.wall_hu(thorax, *here, out[flesh], depth[flesh], width)
    hu[flesh] = tissue.paint_spine(thorax, painted, *here, width)
    return hu, tissue.cover(out, width)


def _expose(hu, scan, rng):
    """Returns the image as the scanner shows it: blurred, noisy, in whole HU of 12 bits."""
    hu = scipy.ndimage.gaussian_filter(hu, scan.blur_mm / scan.spacing_mm)
    noise = scipy.ndimage.gaussian_filter(rng.standard_normal(hu.shape, dtype=np.float32), 0.5)
    hu += noise * (scan.noise_hu / noise.std())
    return np.clip(np.round(hu), AIR_HU, 3071.0)


def displacement_mm(mapping, axes) -> np.ndarray:
    """Returns mapping(x) - x on a grid.

    Args:
        mapping: takes points (N, 3) in mm to points.
        axes: voxel centres along x, y and z, mm.

    Returns:
        Displacement, mm, (X, Y, Z, 3), float32.
    """
    return _spread(_on_lattice(mapping, axes), axes)


def _lattice(axes):
    """Returns the nodes along each axis on which the smooth maps are evaluated."""
    counts = [max(4, int(np.ceil((a[-1] - a[0]) / _LATTICE_MM)) + 1) for a in axes]
    return [np.linspace(a[0], a[-1], n) for a, n in zip(axes, counts, strict=True)]


def _on_lattice(mapping, axes):
    """Returns mapping(x) - x at the nodes, (A, B, C, 3)."""
    points = np.stack(np.meshgrid(*_lattice(axes), indexing="ij"), axis=-1)
    return mapping(points) - points


def _spread(values, axes):
    """Returns values at the nodes (A, B, C, K) on the grid (X, Y, Z, K) by splines, float32."""
    values = values.astype(np.float32)
    for nodes, axis in zip(_lattice(axes), axes, strict=True):
        weights = CubicSpline(nodes, np.eye(len(nodes)))(axis).astype(np.float32)
        values = np.tensordot(values, weights, axes=(0, 1))  # the finished axis goes to the end
    return np.ascontiguousarray(np.moveaxis(values, 0, -1))


def _determinant(field, axes):
    """Returns det(I + du/dx) at the nodes, (A, B, C), by the derivatives of the splines."""
    gradient = np.empty((*field.shape, 3))
    for k, nodes in enumerate(_lattice(axes)):
        slopes = CubicSpline(nodes, np.eye(len(nodes)))(nodes, 1)
        gradient[..., k] = np.moveaxis(np.tensordot(slopes, field, axes=(1, k)), 0, k)
    return np.linalg.det(gradient + np.eye(3))


def _wall_points(motion, axes):
    """Returns the inhaled wall points of a grid; x depends on (x, z) only, y on (y, z) only."""
    x, y, z = (a.reshape(s) for a, s in zip(axes, _BROADCAST, strict=True))
    in_x = motion.wall_inverse(np.stack(np.broadcast_arrays(x, 0.0, z), axis=-1))
    in_y = motion.wall_inverse(np.stack(np.broadcast_arrays(0.0, y, z), axis=-1))
    points = (in_x[..., 0], in_y[..., 1], z)
    x, y, z = np.broadcast_arrays(*(p.astype(np.float32) for p in points))
    return x, y, z


_BROADCAST = ((-1, 1, 1), (1, -1, 1), (1, 1, -1))


def _paint_trees(hu, subject, motion, axes, lung):
    """Paints vessels, walls of airways and their lumina, in place; the trees stay in the lungs."""
    place = motion.content if motion is not None else lambda points: points

    def fraction(group, scale=1.0, extra_mm=0.0):
        pieces = [tree.polyline(6.0) for tree in group]
        starts, ends, radii = (np.concatenate(part) for part in zip(*pieces, strict=True))
        return trees.rasterise(place(starts), place(ends), scale * radii + extra_mm, axes)

    vessels = np.maximum(fraction(subject.vessels), fraction(subject.airways, 1.12, 0.35)) * lung
    hu[...] = tissue.paint(hu, vessels, np.maximum(hu, tissue.BLOOD))
    hu[...] = tissue.paint(hu, fraction(subject.airways) * lung, tissue.AIR)
    hu[...] = tissue.paint(hu, fraction([subject.trachea], 1.0, 1.5), tissue.BLOOD)
    hu[...] = tissue.paint(hu, fraction([subject.trachea]), tissue.AIR)


def draw_subject(rng: np.random.Generator) -> Subject:
    """Returns a random subject with its trees."""
    thorax = anatomy.draw_thorax(rng)
    inhale_hu = rng.uniform(-885.0, -835.0)
    gravity_hu = rng.uniform(10.0, 40.0)
    texture = tissue.draw_texture(rng, rng.uniform(0.08, 0.2))
    pitch_mm = rng.uniform(7.5, 9.5)
    terminal_mm = rng.uniform(0.36, 0.48)
    exponent = rng.uniform(2.7, 3.0)
    lung = [_lung_points(rng, thorax, pitch_mm) for _ in range(2)]
    vessels, airways = [], []
    for lobe in range(1, 6):
        arteries, veins = (p[anatomy.Content(thorax, *p.T).lobes == lobe] for p in lung)
        hilum = thorax.hilum_mm[0 if lobe <= 3 else 1]
        bronchi = trees.grow(rng, hilum, arteries, terminal_mm, exponent)
        vessels.append(_beside(bronchi))
        airways.append(_pruned(bronchi, 1.3))
        vessels.append(trees.grow(rng, hilum + [0.0, 10.0, -14.0], veins, terminal_mm, exponent))
    return Subject(
        thorax=thorax,
        texture=texture,
        inhale_hu=inhale_hu,
        gravity_hu=gravity_hu,
        fissure_mm=rng.uniform(0.0, 0.6),
        vessels=tuple(vessels),
        airways=tuple(airways),
        trachea=_trachea(thorax),
        lung_points=lung[0],
    )


def _lung_points(rng, thorax, pitch_mm):
    """Returns points (N, 3) spread evenly through the lungs: a jittered lattice."""
    height = thorax.cavity.height_mm
    box = [np.arange(-170.0, 170.0, pitch_mm), np.arange(-130.0, 130.0, pitch_mm)]
    box.append(np.arange(0.0, height, pitch_mm))
    points = np.stack(np.meshgrid(*box, indexing="ij"), axis=-1).reshape(-1, 3)
    points = points + rng.uniform(-0.45, 0.45, size=points.shape) * pitch_mm
    return points[anatomy.Content(thorax, *points.T).lung < -2.0]


def _beside(bronchi):
    """Returns the arteries that run beside airways, on their lateral upper side."""
    along = bronchi.nodes - bronchi.nodes[bronchi.parent]
    side = np.cross(along, [0.3, 1.0, 0.2])
    side /= np.linalg.norm(side, axis=1, keepdims=True) + 1e-9
    return dataclasses.replace(
        bronchi, nodes=bronchi.nodes + 2.2 * bronchi.radius_mm[:, None] * side
    )


def _pruned(tree, least_radius_mm):
    """Returns the tree without the branches below a radius."""
    keep = tree.radius_mm >= least_radius_mm  # a parent is wider than its daughters
    position = np.cumsum(keep) - 1
    return trees.Tree(tree.nodes[keep], position[tree.parent[keep]], 0.8 * tree.radius_mm[keep])


def _trachea(thorax):
    """Returns the trachea and the two main bronchi."""
    height = thorax.cavity.height_mm
    _, ry, cy = thorax.cavity.profile(np.array([1.4, 0.69])).T
    top = [0.0, cy[0] + 0.1 * ry[0], 1.4 * height]
    carina = [2.0, cy[1] - 0.1 * ry[1], 0.69 * height]
    nodes = np.array([top, carina, *thorax.hilum_mm])
    return trees.Tree(nodes, np.array([0, 0, 1, 1]), np.array([8.5, 8.5, 6.5, 5.8]))

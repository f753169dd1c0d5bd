"""A generated breathing thorax: two CT images of one subject and the truth between them.

`phantom_pair` draws a subject, its breath and two scans from a seed, on a grid of any shape and
spacing. The subject and the breath depend on the seed alone, not on the grid.
"""

import dataclasses
from numbers import Real
from typing import Literal

import numpy as np
import scipy.ndimage
from scipy.interpolate import CubicSpline

from jaxreg.data import phantom_anatomy as anatomy
from jaxreg.data import phantom_tissue as tissue
from jaxreg.data import phantom_trees as trees
from jaxreg.data.phantom_motion import Motion, draw_motion
from jaxreg.data.volume import DisplacementField, Volume

_LATTICE_MM = 6.0  # the maps are smooth: cubic splines through these nodes err by micrometres
_LANDMARKS_PER_LOBE = 80
_MAX_MOTION_MM = 60.0


@dataclasses.dataclass(frozen=True, eq=False)
class PhantomPair:
    """Two images of one breathing subject and the truth between them.

    Attributes:
        fixed, moving: CT in HU.
        fixed_labels, moving_labels: lobes, 1..5 = right upper, middle, lower, left upper, lower.
        fixed_landmarks, moving_landmarks: (N, 3) vessel branchings, RAS mm; a moving one is the
            fixed one plus `displacement` sampled there trilinearly.
        displacement: true field on the fixed grid. In the lungs it moves lung tissue; outside it
            is the smooth continuation of that map, which heart, diaphragm and upper abdomen
            follow too. Ribs, spine and body wall do not: the lungs slide along them.
        wall_displacement: true field of ribs, spine, muscles and skin on the fixed grid. Along the
            normal of the chest wall it agrees with `displacement`.
    """

    fixed: Volume
    moving: Volume
    fixed_labels: Volume
    moving_labels: Volume
    fixed_landmarks: np.ndarray
    moving_landmarks: np.ndarray
    displacement: DisplacementField
    wall_displacement: DisplacementField


@dataclasses.dataclass(frozen=True, eq=False)
class _Subject:
    """What both scans of a pair share, in the inhaled state."""

    thorax: anatomy.Thorax
    texture: np.ndarray
    inhale_hu: float
    gravity_hu: float
    vessels: tuple[trees.Tree, ...]
    airways: tuple[trees.Tree, ...]
    trachea: trees.Tree
    lung_points: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class _Scan:
    """How one scan was made: grid axes in anatomical mm, blur, noise."""

    axes: tuple[np.ndarray, np.ndarray, np.ndarray]
    blur_mm: float
    noise_hu: float


def phantom_pair(
    seed: int,
    *,
    shape: tuple[int, int, int] = (96, 80, 96),
    spacing_mm: tuple[float, float, float] | None = None,
    motion: Literal["4dct", "breath-hold"] | float = "4dct",
    fixed_phase: Literal["inhale", "exhale"] = "inhale",
    moving_shift_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> PhantomPair:
    """Returns two scans of a generated subject and the truth between them.

    Args:
        seed: subject, breath and noise; the same seed and options give the same bits.
        shape: voxels along x, y, z of both images.
        spacing_mm: voxel size; by default the grid spans the chest.
        motion: "4dct" (quiet breathing: greatest cranio-caudal motion of lung tissue 9 to 22 mm),
            "breath-hold" (20 to 50 mm), or that greatest motion in mm, 0 to 60.
        fixed_phase: the state in the fixed image; the moving image shows the other one.
        moving_shift_mm: how much further to the right, front and head the patient and the grid
            lie in the moving scan.
    """
    _check(seed, shape, spacing_mm, motion, fixed_phase, moving_shift_mm)
    subject = _draw_subject(np.random.default_rng([seed, 0]))
    breath = draw_motion(
        np.random.default_rng([seed, 1]), subject.thorax.cavity, subject.lung_points, motion
    )
    rng = np.random.default_rng([seed, 2])
    axes = _grid_axes(rng, subject.thorax, shape, spacing_mm)
    noise_hu = rng.uniform(6.0, 20.0)
    doses = {"inhale": 1.0, "exhale": 0.25}  # a quarter of the dose doubles the noise
    images, labels = {}, {}
    for phase, dose in doses.items():
        blur_mm = rng.uniform(0.5, 0.9) + 0.25 * float(np.mean([a[1] - a[0] for a in axes]))
        scan = _Scan(axes, blur_mm, noise_hu / np.sqrt(dose))
        images[phase], labels[phase] = _render(
            subject, breath if phase == "exhale" else None, scan, rng
        )
    return _assemble(rng, subject, breath, axes, images, labels, fixed_phase, moving_shift_mm)


def _assemble(rng, subject, breath, axes, images, labels, fixed_phase, moving_shift_mm):
    """Returns the pair in world coordinates."""
    forward = fixed_phase == "inhale"
    moving_phase = "exhale" if forward else "inhale"
    shift = np.asarray(moving_shift_mm, float)
    origin = rng.uniform(-90.0, 90.0, size=3)  # of the anatomical coordinates in the world
    affine = np.diag([*(axis[1] - axis[0] for axis in axes), 1.0])
    affine[:3, 3] = origin + [axis[0] for axis in axes]
    moving_affine = affine.copy()
    moving_affine[:3, 3] += shift
    content = breath.content if forward else breath.content_inverse
    wall = breath.wall_map if forward else breath.wall_inverse
    field = _displacement(content, axes) + shift.astype(np.float32)
    wall_field = _displacement(wall, axes) + shift.astype(np.float32)
    nodes = _branchings(subject, axes)
    nodes = nodes if forward else breath.content(nodes)
    index = (nodes - [a[0] for a in axes]) / np.diag(affine)[:3]
    index = _well_inside(index, labels[fixed_phase])
    fixed_landmarks = index * np.diag(affine)[:3] + affine[:3, 3]
    moved = [
        scipy.ndimage.map_coordinates(field[..., c].astype(float), index.T, order=1)
        for c in range(3)
    ]
    return PhantomPair(
        fixed=Volume(images[fixed_phase], affine),
        moving=Volume(images[moving_phase], moving_affine),
        fixed_labels=Volume(labels[fixed_phase], affine),
        moving_labels=Volume(labels[moving_phase], moving_affine),
        fixed_landmarks=fixed_landmarks,
        moving_landmarks=fixed_landmarks + np.stack(moved, axis=-1),
        displacement=DisplacementField(field, affine),
        wall_displacement=DisplacementField(wall_field, affine),
    )


def _branchings(subject, axes):
    """Returns the branchings (N, 3) of the widest daughters, lobe by lobe."""
    positions, widths = [], []
    for tree in subject.vessels:
        nodes = tree.branchings()
        positions.append(tree.nodes[nodes])
        widths.append(tree.radius_mm[nodes])
    positions, widths = np.concatenate(positions), np.concatenate(widths)
    lobes = anatomy.lobe_labels(subject.thorax, *positions.T)
    chosen = []
    for lobe in range(1, 6):
        members = np.flatnonzero(lobes == lobe)
        order = np.argsort(-widths[members], kind="stable")
        chosen.append(members[order[:_LANDMARKS_PER_LOBE]])
    return positions[np.concatenate(chosen)]


def _well_inside(index, labels):
    """Returns the voxel coordinates (N, 3) whose eight neighbours are lung."""
    cell = np.floor(index).astype(int)
    index = index[np.all((cell >= 0) & (cell < np.array(labels.shape) - 1), axis=1)]
    cell = np.floor(index).astype(int)
    inside = np.ones(len(cell), bool)
    for corner in np.ndindex(2, 2, 2):
        inside &= labels[tuple((cell + corner).T)] > 0
    return index[inside]


def _displacement(mapping, axes):
    """Returns mapping(x) - x on a grid, (X, Y, Z, 3) float32, by splines through a lattice."""
    lattice = [
        np.linspace(a[0], a[-1], max(4, int(np.ceil((a[-1] - a[0]) / _LATTICE_MM)) + 1))
        for a in axes
    ]
    points = np.stack(np.meshgrid(*lattice, indexing="ij"), axis=-1)
    field = (mapping(points) - points).astype(np.float32)
    for nodes, axis in zip(lattice, axes, strict=True):
        weights = CubicSpline(nodes, np.eye(len(nodes)))(axis).astype(np.float32)
        field = np.tensordot(field, weights, axes=(0, 1))  # moves the finished axis to the end
    return np.ascontiguousarray(np.moveaxis(field, 0, -1))


def _render(subject: _Subject, breath: Motion | None, scan: _Scan, rng: np.random.Generator):
    """Returns the image in HU, float32, and the lobes, int8, of one scan."""
    thorax = subject.thorax
    x, y, z = (a.astype(np.float32).reshape(s) for a, s in zip(scan.axes, _BROADCAST, strict=True))
    wall, content, volume = (x, y, z), (x, y, z), np.float32(1.0)
    if breath is not None:
        wall = _wall_points(breath, scan.axes)
        inverse = _displacement(breath.content_inverse, scan.axes)
        content = tuple(c + inverse[..., i] for i, c in enumerate((x, y, z)))
        volume = _determinant(inverse, scan.axes)
    spacing = np.array([a[1] - a[0] for a in scan.axes])
    width = float(spacing.mean())
    hu, cavity = tissue.wall_hu(thorax, *wall, width)
    hu = tissue.paint(hu, cavity, tissue.content_hu(thorax, *content, width)).astype(np.float32)
    tissue.paint_spine(thorax, hu, *wall, width)
    distance = anatomy.lung_distance(thorax, *content)
    near = distance < 0.5 * width
    points = [np.broadcast_to(c, hu.shape)[near] for c in content]
    lung = tissue.parenchyma_hu(
        thorax, subject.texture, *points, inhale_hu=subject.inhale_hu,
        gravity_hu=subject.gravity_hu, width_mm=width,
    )  # fmt: skip
    # mass is kept: density times volume
    lung = (lung + 1000.0) * np.broadcast_to(volume, hu.shape)[near] - 1000.0
    hu[near] = tissue.paint(hu[near], tissue.cover(distance[near], width), lung)
    _paint_trees(hu, subject, breath, scan.axes, tissue.cover(distance - 3.0, width))
    lobes = np.zeros(hu.shape, np.int8)
    inside = distance[near] < 0.0
    lobes[near] = np.where(inside, anatomy.lobe_labels(thorax, *points), 0)
    hu = scipy.ndimage.gaussian_filter(hu, scan.blur_mm / spacing)
    noise = scipy.ndimage.gaussian_filter(rng.standard_normal(hu.shape, dtype=np.float32), 0.5)
    hu += noise * (scan.noise_hu / noise.std())
    return np.clip(np.round(hu), -1024.0, 3071.0), lobes


_BROADCAST = ((-1, 1, 1), (1, -1, 1), (1, 1, -1))


def _wall_points(breath, axes):
    """Returns the inhaled wall points of a grid; x depends on (x, z) only, y on (y, z) only."""
    x, y, z = (a.reshape(s) for a, s in zip(axes, _BROADCAST, strict=True))
    in_x = breath.wall_inverse(np.stack(np.broadcast_arrays(x, 0.0, z), axis=-1))
    in_y = breath.wall_inverse(np.stack(np.broadcast_arrays(0.0, y, z), axis=-1))
    return in_x[..., 0].astype(np.float32), in_y[..., 1].astype(np.float32), z.astype(np.float32)


def _determinant(displacement, axes):
    """Returns det(I + du/dx) by central differences, (X, Y, Z)."""
    gradient = [np.gradient(displacement[..., c], *axes) for c in range(3)]
    (a, b, c), (d, e, f), (g, h, i) = (
        [gradient[r][k] + np.float32(r == k) for k in range(3)] for r in range(3)
    )
    return (a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)).astype(np.float32)


def _paint_trees(hu, subject, breath, axes, lung):
    """Paints vessels, walls of airways and their lumina, in place; the trees stay in the lungs."""
    place = breath.content if breath is not None else lambda points: points

    def share(group, scale=1.0, extra_mm=0.0):
        pieces = [tree.polyline(6.0) for tree in group]
        starts, ends, radii = (np.concatenate(part) for part in zip(*pieces, strict=True))
        return trees.rasterise(place(starts), place(ends), scale * radii + extra_mm, axes)

    vessels = np.maximum(share(subject.vessels), share(subject.airways, 1.12, 0.35)) * lung
    hu[...] = tissue.paint(hu, vessels, np.maximum(hu, tissue.BLOOD))
    hu[...] = tissue.paint(hu, share(subject.airways) * lung, tissue.AIR)
    hu[...] = tissue.paint(hu, share([subject.trachea], 1.0, 1.5), tissue.BLOOD)
    hu[...] = tissue.paint(hu, share([subject.trachea]), tissue.AIR)


def _draw_subject(rng):
    """Returns a random subject with its trees."""
    thorax = anatomy.draw_thorax(rng)
    inhale_hu = rng.uniform(-885.0, -835.0)
    gravity_hu = rng.uniform(10.0, 40.0)
    texture = tissue.draw_texture(rng, rng.uniform(0.08, 0.2))
    pitch_mm = rng.uniform(7.5, 9.5)
    terminal_mm = rng.uniform(0.36, 0.46)
    exponent = rng.uniform(2.6, 3.0)
    lung = [_lung_points(rng, thorax, pitch_mm) for _ in range(2)]
    vessels, airways = [], []
    for lobe in range(1, 6):
        arteries, veins = (p[anatomy.lobe_labels(thorax, *p.T) == lobe] for p in lung)
        hilum = thorax.hilum_mm[0 if lobe <= 3 else 1]
        bronchi = trees.grow(rng, hilum, arteries, terminal_mm, exponent)
        vessels.append(_beside(bronchi))
        airways.append(_pruned(bronchi, 1.3))
        vessels.append(trees.grow(rng, hilum + [0.0, 10.0, -14.0], veins, terminal_mm, exponent))
    return _Subject(
        thorax,
        texture,
        inhale_hu,
        gravity_hu,
        tuple(vessels),
        tuple(airways),
        _trachea(thorax),
        lung[0],
    )


def _lung_points(rng, thorax, pitch_mm):
    """Returns points (N, 3) spread evenly through the lungs: a jittered lattice."""
    height = thorax.cavity.height_mm
    box = [np.arange(-170.0, 170.0, pitch_mm), np.arange(-130.0, 130.0, pitch_mm)]
    box.append(np.arange(0.0, height, pitch_mm))
    points = np.stack(np.meshgrid(*box, indexing="ij"), axis=-1).reshape(-1, 3)
    points = points + rng.uniform(-0.45, 0.45, size=points.shape) * pitch_mm
    return points[anatomy.lung_distance(thorax, *points.T) < -2.0]


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


def _grid_axes(rng, thorax, shape, spacing_mm):
    """Returns the voxel centres along each axis in anatomical mm; the grid is centred roughly."""
    height = thorax.cavity.height_mm
    body = thorax.body(np.linspace(-0.1, 1.05, 24))
    low = np.array([-body[:, 0].max(), (body[:, 2] - body[:, 1]).min(), -0.06 * height])
    high = np.array([body[:, 0].max(), (body[:, 2] + body[:, 1]).max(), 1.06 * height])
    centre = 0.5 * (low + high) + rng.uniform(-4.0, 4.0, size=3)
    spacing = (high - low + 8.0) / shape if spacing_mm is None else np.asarray(spacing_mm, float)
    return tuple(
        c + s * (np.arange(n) - (n - 1) / 2) for c, s, n in zip(centre, spacing, shape, strict=True)
    )


def _check(seed, shape, spacing_mm, motion, fixed_phase, moving_shift_mm):
    """Refuses arguments that make no pair."""
    if not (isinstance(seed, (int, np.integer)) and seed >= 0):
        raise ValueError(f"seed: expected an integer from 0 on, got {seed!r}. Choose another one.")
    if len(shape) != 3 or any(int(n) != n or n < 16 for n in shape):
        raise ValueError(
            f"shape: expected three numbers of voxels from 16 on, got {shape}. Enlarge the grid."
        )
    if spacing_mm is not None and (len(spacing_mm) != 3 or not np.all(np.array(spacing_mm) > 0)):
        raise ValueError(
            f"spacing_mm: expected three positive sizes, got {spacing_mm}. "
            "Leave it out to span the chest."
        )
    named = isinstance(motion, str) and motion in ("4dct", "breath-hold")
    if not (named or (isinstance(motion, Real) and 0.0 <= motion <= _MAX_MOTION_MM)):
        raise ValueError(
            f'motion: expected "4dct", "breath-hold" or 0 to 60 mm, got {motion!r}. '
            "Name a kind or give the peak in millimetres."
        )
    if fixed_phase not in ("inhale", "exhale"):
        raise ValueError(
            f'fixed_phase: expected "inhale" or "exhale", got {fixed_phase!r}. Name one of them.'
        )
    if len(moving_shift_mm) != 3 or not np.all(np.isfinite(moving_shift_mm)):
        raise ValueError(
            f"moving_shift_mm: expected three finite numbers, got {moving_shift_mm}. "
            "Give millimetres to the right, front and head."
        )

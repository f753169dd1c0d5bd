"""A generated thorax in respiratory motion: two CT images of one subject with their ground truth.

`phantom_pair` draws a subject, its respiratory motion and two scans from a seed, on a grid of any
shape and spacing. The subject and its motion depend on the seed alone, not on the grid.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import scipy.ndimage

from jaxreg.geometry.volume import DisplacementField, Volume
from jaxreg.phantom import anatomy
from jaxreg.phantom.motion import draw_motion
from jaxreg.phantom.nodules import Body, Drawn, Nodule, draw_nodules
from jaxreg.phantom.scan import Scan, Subject, displacement_mm, draw_subject, render

_LANDMARKS_PER_LOBE = 80
_MAX_MOTION_MM = 60.0


@dataclasses.dataclass(frozen=True, eq=False)
class PhantomPair:
    """Two images of one subject in respiratory motion and the ground truth between them.

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
        nodules: if asked for.
    """

    fixed: Volume
    moving: Volume
    fixed_labels: Volume
    moving_labels: Volume
    fixed_landmarks: np.ndarray
    moving_landmarks: np.ndarray
    displacement: DisplacementField
    wall_displacement: DisplacementField
    nodules: tuple[Nodule, ...] = ()


def phantom_pair(
    seed: int,
    *,
    shape: Sequence[int] = (96, 80, 96),
    spacing_mm: Sequence[float] | None = None,
    motion: str | int | float = "4dct",
    fixed_phase: str = "inhale",
    moving_shift_mm: Sequence[float] = (0.0, 0.0, 0.0),
    nodules: int = 0,
) -> PhantomPair:
    """Returns two scans of a generated subject and the ground truth between them.

    Args:
        seed: subject, respiratory motion and noise; the same seed and options give the same bits.
        shape: voxels along x, y, z of both images.
        spacing_mm: voxel size; by default the grid spans the chest.
        motion: "4dct" (quiet respiration: greatest cranio-caudal motion of lung tissue about 10 to
            24 mm), "breath-hold" (20 to 50 mm), or that greatest motion in mm, 0 to 60.
        fixed_phase: "inhale" or "exhale"; the moving image shows the other state.
        moving_shift_mm: how much further to the right, front and head the patient and the grid
            lie in the moving scan.
        nodules: how many there are, which grow, shrink, vanish or are new from the moving scan to
            the fixed one.

    Returns:
        Both images with lobes and landmarks, and the displacement between them.

    Raises:
        ValueError: an argument is out of range; the text names it.
    """
    check(seed, shape, spacing_mm, motion)
    _check_pair(fixed_phase, moving_shift_mm)
    subject = draw_subject(np.random.default_rng([seed, 0]))
    respiration = draw_motion(
        np.random.default_rng([seed, 1]), subject.thorax.cavity, subject.lung_points, motion
    )
    rng = np.random.default_rng([seed, 2])
    axes = grid_axes(rng, subject.thorax, shape, spacing_mm)
    origin = rng.uniform(-90.0, 90.0, size=3)  # of the anatomical coordinates in the world
    noise_hu = rng.uniform(6.0, 20.0)
    drawn = draw_nodules(
        np.random.default_rng([seed, 3]),
        subject.thorax,
        subject.vessels,
        subject.lung_points,
        nodules,
    )
    bodies = _bodies(drawn, respiration, fixed_phase)
    doses = {"inhale": 1.0, "exhale": 0.25}  # a quarter of the dose doubles the noise
    images, labels = {}, {}
    for phase, dose in doses.items():
        blur_mm = rng.uniform(0.5, 0.9) + 0.25 * float(np.mean([a[1] - a[0] for a in axes]))
        scan = Scan(axes, blur_mm, noise_hu / np.sqrt(dose))
        images[phase], labels[phase] = render(
            subject,
            respiration if phase == "exhale" else None,
            scan,
            rng,
            nodules=bodies[phase],
        )
    pair = _assemble(
        origin, subject, respiration, axes, images, labels, fixed_phase, moving_shift_mm
    )
    return dataclasses.replace(pair, nodules=_in_world(drawn, bodies, pair, axes, fixed_phase))


def _bodies(drawn: Sequence[Drawn], respiration, fixed_phase: str) -> dict[str, list[Body]]:
    """The nodules in each phase, anatomical mm."""
    found = {}
    for phase in ("inhale", "exhale"):
        scan = 0 if phase == fixed_phase else 1
        centres = [nodule.centre for nodule in drawn]
        if phase == "exhale":
            centres = [respiration.content(centre[None])[0] for centre in centres]
        found[phase] = [nodule.body(scan, c) for nodule, c in zip(drawn, centres, strict=True)]
    return found


def _in_world(drawn, bodies, pair: PhantomPair, axes, fixed_phase: str) -> tuple[Nodule, ...]:
    """The nodules in world coordinates of both scans."""
    moving_phase = "exhale" if fixed_phase == "inhale" else "inhale"
    first = [axis[0] for axis in axes]
    found = []
    for nodule, fixed, moving in zip(drawn, bodies[fixed_phase], bodies[moving_phase], strict=True):
        fixed_mm, moving_mm = (
            body.centre - first + volume.affine[:3, 3]
            for body, volume in ((fixed, pair.fixed), (moving, pair.moving))
        )
        found.append(Nodule(nodule.kind, fixed_mm, moving_mm, fixed.ml, moving.ml, nodule.hu))
    return tuple(found)


def phantom_states(seed: int, *, shape: Sequence[int]) -> tuple[tuple[Volume, Volume], ...]:
    """Returns the inhaled and the exhaled state of a generated subject, each a noiseless CT in HU
    and its lobes, for those who add motion and noise of their own.

    Args:
        seed: subject and respiratory motion, those of `phantom_pair` with motion "4dct".
        shape: voxels along x, y, z; the grid spans the chest.

    Returns:
        Image and lobes of the inhaled state, and of the exhaled one.

    Raises:
        ValueError: an argument is out of range; the text names it.
    """
    check(seed, shape, None, "4dct")
    subject = draw_subject(np.random.default_rng([seed, 0]))
    respiration = draw_motion(
        np.random.default_rng([seed, 1]), subject.thorax.cavity, subject.lung_points, "4dct"
    )
    rng = np.random.default_rng([seed, 2])
    axes = grid_axes(rng, subject.thorax, shape, None)
    affine = np.diag([*(axis[1] - axis[0] for axis in axes), 1.0])
    affine[:3, 3] = [axis[0] for axis in axes]
    scan = Scan(axes, blur_mm=0.25 * float(np.diag(affine)[:3].mean()), noise_hu=0.0)
    scans = [render(subject, state, scan, rng) for state in (None, respiration)]
    return tuple((Volume(hu, affine), Volume(lobes, affine)) for hu, lobes in scans)


def _assemble(origin, subject, respiration, axes, images, labels, fixed_phase, moving_shift_mm):
    """Returns the pair in world coordinates."""
    forward = fixed_phase == "inhale"
    moving_phase = "exhale" if forward else "inhale"
    shift = np.asarray(moving_shift_mm, float)
    affine = np.diag([*(axis[1] - axis[0] for axis in axes), 1.0])
    affine[:3, 3] = origin + [axis[0] for axis in axes]
    moving_affine = affine.copy()
    moving_affine[:3, 3] += shift
    content = respiration.content if forward else respiration.content_inverse
    wall = respiration.wall_map if forward else respiration.wall_inverse
    field = displacement_mm(content, axes) + shift.astype(np.float32)
    wall_field = displacement_mm(wall, axes) + shift.astype(np.float32)
    nodes = branchings(subject)
    nodes = nodes if forward else respiration.content(nodes)
    index = (nodes - [a[0] for a in axes]) / np.diag(affine)[:3]
    index = index[well_inside(index, labels[fixed_phase])]
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


def branchings(subject: Subject) -> np.ndarray:
    """Returns the branchings (N, 3) of the widest daughters, lobe by lobe, in the inhaled state."""
    positions, widths = [], []
    for tree in subject.vessels:
        nodes = tree.branchings()
        positions.append(tree.nodes[nodes])
        widths.append(tree.radius_mm[nodes])
    positions, widths = np.concatenate(positions), np.concatenate(widths)
    lobes = anatomy.Content(subject.thorax, *positions.T).lobes
    chosen = []
    for lobe in range(1, 6):
        members = np.flatnonzero(lobes == lobe)
        order = np.argsort(-widths[members], kind="stable")
        chosen.append(members[order[:_LANDMARKS_PER_LOBE]])
    return positions[np.concatenate(chosen)]


def well_inside(index: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns which points lie between eight voxels of lung.

    Args:
        index: voxel coordinates, (N, 3).
        labels: above 0 in the lungs, (X, Y, Z).

    Returns:
        True for these points, (N,).
    """
    cell = np.floor(index).astype(int)
    inside = np.all((cell >= 0) & (cell < np.array(labels.shape) - 1), axis=1)
    for corner in np.ndindex(2, 2, 2):
        inside[inside] &= labels[tuple((cell[inside] + corner).T)] > 0
    return inside


def grid_axes(
    rng: np.random.Generator,
    thorax: anatomy.Thorax,
    shape: Sequence[int],
    spacing_mm: Sequence[float] | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the voxel centres along each axis; the chest is about in the middle.

    Args:
        rng: moves the centre by up to 4 mm along each axis.
        thorax: the subject.
        shape: voxels along x, y, z.
        spacing_mm: voxel size; None for a grid that spans the chest.

    Returns:
        Anatomical x, y and z, mm.
    """
    height = thorax.cavity.height_mm
    body = thorax.body(np.linspace(-0.1, 1.05, 24))
    low = np.array([-body[:, 0].max(), (body[:, 2] - body[:, 1]).min(), -0.06 * height])
    high = np.array([body[:, 0].max(), (body[:, 2] + body[:, 1]).max(), 1.06 * height])
    centre = 0.5 * (low + high) + rng.uniform(-4.0, 4.0, size=3)
    spacing = (high - low + 8.0) / shape if spacing_mm is None else np.asarray(spacing_mm, float)
    x, y, z = (
        c + s * (np.arange(n) - (n - 1) / 2) for c, s, n in zip(centre, spacing, shape, strict=True)
    )
    return x, y, z


def check(
    seed: int,
    shape: Sequence[int],
    spacing_mm: Sequence[float] | None,
    motion: str | int | float,
) -> None:
    """Checks the arguments of a generated scan.

    Args:
        seed: 0 or above.
        shape: three numbers of voxels, 16 or above.
        spacing_mm: three sizes above 0, or None.
        motion: "4dct", "breath-hold" or 0 to 60 mm.

    Raises:
        ValueError: one of them is something else; the text names it.
    """
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
    if not (named or (isinstance(motion, (int, float)) and 0.0 <= motion <= _MAX_MOTION_MM)):
        raise ValueError(
            f'motion: expected "4dct", "breath-hold" or 0 to 60 mm, got {motion!r}. '
            "Name a kind or give the peak in millimetres."
        )


def _check_pair(fixed_phase, moving_shift_mm):
    """Refuses what makes no pair of two scans."""
    if fixed_phase not in ("inhale", "exhale"):
        raise ValueError(
            f'fixed_phase: expected "inhale" or "exhale", got {fixed_phase!r}. Name one of them.'
        )
    if len(moving_shift_mm) != 3 or not np.all(np.isfinite(moving_shift_mm)):
        raise ValueError(
            f"moving_shift_mm: expected three finite numbers, got {moving_shift_mm}. "
            "Give millimetres to the right, front and head."
        )

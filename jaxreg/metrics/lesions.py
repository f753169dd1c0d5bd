"""Lesions of the lung delineated from a place: one method for every image, so that volumes compare.

Semi-automatic volumetry in the manner of Kostis et al. 2003 (IEEE Trans Med Imaging 22, 1259) and
Kuhnigk et al. 2006 (IEEE Trans Med Imaging 25, 417): a threshold half-way between lesion and lung,
opening by a ball that cuts off vessels, what is left grown back within the threshold, and a volume
in which voxels at the border count by their density.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
from scipy import ndimage

from jaxreg.config import FollowConfig
from jaxreg.geometry.grid import Box, Grid
from jaxreg.geometry.lung_grid import AIR_HU
from jaxreg.geometry.volume import Volume, resample
from jaxreg.lungs.morphology import distance_mm, labelled

_AERATED_HU, _LUNG_HU = -500.0, -850.0  # below it is lung; a lung of which nothing is seen
_ROUNDS = 3  # of threshold and density, each from the other
_CROP, _CROP_MM = 3.0, 8.0  # half edge around a lesion, by its largest ball
_RIM, _LEAST_RIM_MM = 1.25, 1.5  # border, by the image's largest voxel
_BLURRED = 2.0  # by the border: radius below which a ball's middle is blurred, too
_SHELL_MM = 5.0  # beyond it, of the lung around a lesion
_MARKERS_MM = 3.0  # between places from which lesions are delineated
_SAME_MM = 2.0  # centres of one lesion, found twice
_MOST = 12  # places that are tried


@dataclasses.dataclass(frozen=True, eq=False)
class Patch:
    """A cube of an image around a place.

    Attributes:
        hu: (N, N, N).
        lungs: (N, N, N), true inside.
        grid: cubic voxels, axes along RAS.
        rim_mm: over which the image blurs a border.
    """

    hu: np.ndarray
    lungs: np.ndarray
    grid: Grid
    rim_mm: float

    @property
    def step_mm(self) -> float:
        """Edge of a voxel."""
        return self.grid.spacing_mm[0]


@dataclasses.dataclass(frozen=True, eq=False)
class Outline:
    """A lesion in one image.

    Attributes:
        centre_mm: (3,), RAS mm.
        ml: volume, voxels at the border by their density.
        hu: density.
        lung_hu: density of the lung around it.
        radius_mm: of the largest ball within it.
        blurred_mm: of a ball so small that the image's blur lowers its density.
        elongation: longest to shortest axis.
        compact: whether it is no longer than a lesion is, and ends within the patch.
        mask: where it is, uint8, cubic voxels.
    """

    centre_mm: np.ndarray
    ml: float
    hu: float
    lung_hu: float
    radius_mm: float
    blurred_mm: float
    elongation: float
    compact: bool
    mask: Volume

    @property
    def diameter_mm(self) -> float:
        """Diameter of the ball of the same volume."""
        return float(np.cbrt(6.0 * self.ml * 1e3 / np.pi))


def patch_around(
    image: Volume,
    lungs: Volume,
    place_mm: np.ndarray,
    reach_mm: float,
    *,
    config: FollowConfig = FollowConfig(),
) -> Patch:
    """A cube of an image, by linear interpolation.

    Args:
        image: HU.
        lungs: nonzero inside, on the grid of `image`.
        place_mm: its centre, (3,), RAS mm.
        reach_mm: half of its edge.
        config: settings.

    Returns:
        The patch; air outside of the image.
    """
    step_mm = float(np.clip(0.5 * min(image.spacing_mm), *config.step_mm))
    count = 2 * int(np.ceil(reach_mm / step_mm)) + 1
    affine = np.diag([step_mm, step_mm, step_mm, 1.0])
    affine[:3, 3] = place_mm - step_mm * (count - 1) / 2
    shape = (count, count, count)
    return Patch(
        resample(image, affine, shape, fill=AIR_HU).data,
        resample(lungs, affine, shape, order=0, fill=0.0).data > 0,
        Grid(shape, affine),
        max(_RIM * max(image.spacing_mm), _LEAST_RIM_MM),
    )


def outlines(
    patch: Patch, place_mm: np.ndarray, within_mm: float, *, config: FollowConfig = FollowConfig()
) -> list[Outline]:
    """What can be a lesion around a place.

    Args:
        patch: of the image.
        place_mm: (3,), RAS mm.
        within_mm: how far the middle of its largest ball may lie from there.
        config: settings.

    Returns:
        Lesions, and vessels that cannot be cut off from them (not compact), the nearest first.
    """
    found: list[Outline] = []
    for marker in _markers(patch, place_mm, within_mm, config):
        outline = _delineated(patch, marker, config)
        if outline is not None:
            apart = [np.linalg.norm(outline.centre_mm - other.centre_mm) for other in found]
            if min(apart, default=np.inf) > _SAME_MM:
                found.append(outline)
    return sorted(found, key=lambda outline: distance_to(outline, place_mm))


def distance_to(outline: Outline, place_mm: np.ndarray) -> float:
    """Distance of a place from a lesion.

    Args:
        outline: of the lesion, taken as a ball of its volume.
        place_mm: (3,), RAS mm.

    Returns:
        mm; below 0 inside.
    """
    apart = float(np.linalg.norm(outline.centre_mm - place_mm))
    return apart - outline.diameter_mm / 2


def on_grid(mask: Volume, grid: Grid) -> tuple[Box, np.ndarray]:
    """A small mask on a grid.

    Args:
        mask: nonzero inside.
        grid: where it is wanted.

    Returns:
        A box of the grid, and within it which voxels are inside.
    """
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in mask.shape])).reshape(3, -1).T
    voxels = grid.voxel_from_world(mask.world_from_voxel(corners))
    low = np.maximum(np.floor(voxels.min(axis=0)).astype(int), 0)
    high = np.minimum(np.ceil(voxels.max(axis=0)).astype(int) + 1, grid.shape)
    if np.any(high <= low):
        nothing = slice(0, 0)
        return (nothing, nothing, nothing), np.zeros((0, 0, 0), bool)
    affine = np.array(grid.affine)
    affine[:3, 3] = grid.world_from_voxel(low)
    soft = Volume(mask.data.astype(np.float32), mask.affine)
    inside = resample(soft, affine, (high - low).tolist(), fill=0.0).data >= 0.5
    x, y, z = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return (x, y, z), inside


def _markers(patch: Patch, place_mm, within_mm, config) -> Iterator[np.ndarray]:
    """Middles of the largest balls of what is denser than lung, the largest first, voxels."""
    aerated = patch.hu[patch.lungs & (patch.hu < _AERATED_HU)]
    lung_hu = float(np.median(aerated)) if aerated.size else _LUNG_HU
    solid = patch.lungs & (patch.hu > lung_hu + config.least_contrast_hu)
    depth = distance_mm(solid, np.full(3, patch.step_mm))
    size = 2 * int(np.ceil(_MARKERS_MM / patch.step_mm / 2)) + 1
    peaks = np.argwhere((depth >= config.least_radius_mm) & (depth == _highest(depth, size)))
    apart = np.linalg.norm(patch.grid.world_from_voxel(peaks) - place_mm, axis=-1)
    depths = depth[tuple(peaks.T)]
    near = np.flatnonzero(apart <= within_mm + 0.5 * depths)
    yield from peaks[near[np.argsort(-depths[near], kind="stable")][:_MOST]]


def _highest(image: np.ndarray, size: int) -> np.ndarray:
    return np.asarray(ndimage.maximum_filter(image, size))


def _delineated(patch: Patch, marker: np.ndarray, config: FollowConfig) -> Outline | None:
    """The lesion around a voxel; None where it has no contrast."""
    spacing = np.full(3, patch.step_mm)
    aerated = patch.hu[patch.lungs & (patch.hu < _AERATED_HU)]
    lung_hu = float(np.median(aerated)) if aerated.size else _LUNG_HU
    level = lung_hu + 2 * config.least_contrast_hu
    reach_mm = config.search_mm
    for _ in range(_ROUNDS):
        box = _box(marker, reach_mm / patch.step_mm, patch.hu.shape)
        hu, lungs, at = patch.hu[box], patch.lungs[box], marker - [s.start for s in box]
        solid = lungs & (hu > (level + lung_hu) / 2)
        depth = distance_mm(solid, spacing)
        at = _uphill(depth, at, int(np.ceil(_MARKERS_MM / patch.step_mm)))
        radius_mm = float(depth[tuple(at)])
        if radius_mm < config.least_radius_mm:
            return None
        inner = _ball_at(depth.shape, at, 0.6 * radius_mm / patch.step_mm)
        level = float(np.median(hu[inner & solid]))
        marker = at + [s.start for s in box]
        reach_mm = _CROP * radius_mm + _CROP_MM
        if level - lung_hu < config.least_contrast_hu:
            return None
    box = _box(marker, reach_mm / patch.step_mm, patch.hu.shape)
    return _opened(patch, box, marker - [s.start for s in box], level, lung_hu, config)


def _opened(patch: Patch, box, at, level, lung_hu, config) -> Outline | None:
    """The lesion without its vessels, within a box of the patch."""
    spacing = np.full(3, patch.step_mm)
    hu, lungs = patch.hu[box], patch.lungs[box]
    solid = lungs & (hu > (level + lung_hu) / 2)
    depth = distance_mm(solid, spacing)
    radius_mm = float(depth[tuple(at)])
    if radius_mm < config.least_radius_mm:
        return None
    *narrow, widest = (_cut_off(solid, depth, at, f * radius_mm, spacing) for f in config.openings)
    bare, bare_hu = _filled(patch, box, solid, widest, level, lung_hu)
    core, filled, around_hu, compact = widest, bare, bare_hu, False
    for opened in narrow:
        if _elongation(opened) > config.most_elongation or _touches(opened):
            continue
        whole, whole_hu = _filled(patch, box, solid, opened, level, lung_hu)
        if whole.sum() <= config.most_cut * bare.sum():
            core, filled, around_hu, compact = opened, whole, whole_hu, True
            break
    ml = float(filled.sum()) * patch.step_mm**3 / 1e3
    if ml <= 0:
        return None
    corner = np.array(patch.grid.affine)
    corner[:3, 3] = patch.grid.world_from_voxel(np.array([side.start for side in box]))
    centre = np.array(ndimage.center_of_mass(np.maximum(filled, 0.0)))
    mask = Volume(core.astype(np.uint8), corner)
    return Outline(
        centre_mm=mask.world_from_voxel(centre),
        ml=ml,
        hu=level,
        lung_hu=around_hu,
        radius_mm=radius_mm,
        blurred_mm=_BLURRED * patch.rim_mm,
        elongation=_elongation(core),
        compact=compact,
        mask=mask,
    )


def _cut_off(solid: np.ndarray, depth, at, ball_mm: float, spacing) -> np.ndarray:
    """The part of what is solid around a voxel that an opening by a ball leaves, grown back."""
    pieces = labelled(depth > ball_mm)
    piece = pieces == pieces[tuple(at)]
    return solid & (distance_mm(~piece, spacing) <= ball_mm)


def _filled(patch: Patch, box, solid, core, level, lung_hu) -> tuple[np.ndarray, float]:
    """The fraction of each voxel that a lesion fills by its density, and the lung's density."""
    hu, lungs = patch.hu[box], patch.lungs[box]
    outside_mm = distance_mm(~core, np.full(3, patch.step_mm))
    rim = lungs & ~solid & (outside_mm <= patch.rim_mm)
    around = lungs & ~solid & ~rim & (outside_mm <= patch.rim_mm + _SHELL_MM)
    if around.any():
        lung_hu = float(np.median(hu[around]))
    return np.where(core | rim, (hu - lung_hu) / (level - lung_hu), 0.0), lung_hu


def _box(marker, half, shape) -> tuple[slice, ...]:
    """The voxels within a distance along each axis, as far as there are some."""
    return tuple(
        slice(max(0, int(m - half)), min(n, int(m + half) + 1))
        for m, n in zip(marker, shape, strict=True)
    )


def _uphill(depth: np.ndarray, at: np.ndarray, reach: int) -> np.ndarray:
    """The deepest voxel near another one."""
    box = _box(at, reach, depth.shape)
    part = depth[box]
    return np.array(np.unravel_index(int(np.argmax(part)), part.shape)) + [s.start for s in box]


def _ball_at(shape, at, radius: float) -> np.ndarray:
    """Voxels within a radius of one, and that one."""
    x, y, z = (np.arange(n) - a for n, a in zip(shape, at, strict=True))
    squares = x[:, None, None] ** 2 + y[:, None] ** 2 + z**2
    return squares <= max(radius, 0.5) ** 2


def _elongation(mask: np.ndarray) -> float:
    """Longest to shortest axis of the ellipsoid with the second moments of a mask."""
    voxels = np.argwhere(mask)
    if len(voxels) < 4:
        return np.inf
    variances = np.linalg.eigvalsh(np.cov(voxels.T)) + 1.0 / 12.0
    return float(np.sqrt(variances[-1] / variances[0]))


def _touches(mask: np.ndarray) -> bool:
    """Whether a mask reaches a face of its box."""
    return any(mask.take(end, axis).any() for axis in range(3) for end in (0, -1))

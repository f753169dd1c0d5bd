"""Linear prealignment of two chest CTs by their lungs, on the host.

Lung moments first, then a rigid and an affine fit that maximise the normalised cross-correlation
(NCC) of the HU in and around the fixed lungs,

    NCC = mean_i w_i f_i,    dNCC/dW_i = (f_i - NCC w_i) / (N std W),

with w and f the standardised values of W_i = M(T(x_i)) and of F_i, over the N voxel centres x_i of
a reduced fixed grid that T maps into the moving image. L-BFGS-B keeps the parameters in bounds.

Transforms map world points of the fixed image to the moving image, RAS millimetres:

    T(x) = c_moving + shift + R(rotation) U(scales, shears) (x - c_fixed),

c the centroids of the lungs, R a rotation vector's matrix, U upper triangular with the scales on
its diagonal.
"""

import dataclasses

import numpy as np
from scipy import ndimage, optimize
from scipy.spatial.transform import Rotation

from jaxreg.config import PrealignmentConfig
from jaxreg.engine.linear_choice import boolean, common_lungs, local_correlation, single_lungs
from jaxreg.geometry.reduction import block_affine, block_mean
from jaxreg.geometry.volume import Volume, transform

_ARM_MM = 100.0  # turns angles, logarithms of scales and shears into millimetres


def prealign(
    fixed: Volume,
    moving: Volume,
    fixed_mask: Volume,
    moving_mask: Volume,
    *,
    config: PrealignmentConfig = PrealignmentConfig(),
) -> tuple[np.ndarray, str]:
    """Linear map from the fixed to the moving image, and the stage that gave it.

    The start is the best by NCC of "identity" (world coordinates as they are), "centroids" (lungs
    shifted onto each other) and "moments" (shifted and scaled to the same extents). From there
    "rigid" and then "affine" are fitted; a stage is kept only if it raises the NCC and costs no
    overlap of the lungs. Shift (beside that of the centroids), rotation, scales and shears stay
    within the bounds of the settings, and a map never mirrors. Where one lung changed its volume by
    much more than the other, each lung is also fitted alone, and the map with the highest
    `local_correlation` is kept.

    Args:
        fixed: chest CT, HU.
        moving: chest CT, HU, on any grid.
        fixed_mask: lungs on the grid of `fixed`: 1 right and 2 left, or not 0 for both.
        moving_mask: lungs on the grid of `moving`; a lung that only one mask has is left out.
        config: settings.

    Returns:
        (4, 4) float64, fixed world to moving world in RAS mm; and the name of the stage kept.
    """
    lungs = common_lungs(fixed_mask, moving_mask, config.remnant)
    choices = [lungs, *single_lungs(fixed_mask, moving_mask, config.lopsided)]
    found = [_fit_lungs(fixed, moving, first, second, config) for first, second in choices]
    if len(found) == 1:
        return found[0]
    spacing_mm = config.spacings_mm[-1]
    images = [at_spacing(image, spacing_mm) for image in (fixed, moving)]
    both = [at_spacing(boolean(mask), spacing_mm) for mask in (fixed_mask, moving_mask)]
    return max(
        found,
        key=lambda one: local_correlation(
            images[0], images[1], both[0], both[1], one[0], config=config
        ),
    )


def _fit_lungs(
    fixed: Volume,
    moving: Volume,
    fixed_lungs: Volume,
    moving_lungs: Volume,
    config: PrealignmentConfig,
) -> tuple[np.ndarray, str]:
    """The linear map that aligns what lies in and around the lungs of two boolean masks."""
    limits_mm = _limits_mm(config)
    centres, candidates = _starts(fixed_lungs, moving_lungs, config.spacings_mm[-1], limits_mm)
    images = (fixed, moving, fixed_lungs, moving_lungs)
    levels = [_level(*images, mm, config) for mm in config.spacings_mm]
    scores = {name: levels[0].ncc(_matrix(p, *centres)) for name, p in candidates.items()}
    stage = max(scores, key=lambda name: scores[name])
    best = candidates[stage]
    for name, free, used in (("rigid", 6, levels[:2]), ("affine", 12, levels)):
        parameters = best
        for level in used:
            parameters = _fit(level, parameters, free, centres, limits_mm)
        if _helps(
            levels[-1], _matrix(parameters, *centres), _matrix(best, *centres), config.overlap_loss
        ):
            best, stage = parameters, name
    return _matrix(best, *centres), stage


def linear_similarity(
    fixed: Volume,
    moving: Volume,
    fixed_mask: Volume,
    moving_mask: Volume,
    matrix: np.ndarray,
    *,
    config: PrealignmentConfig = PrealignmentConfig(),
) -> float:
    """NCC of a linear map at the coarsest resolution, in and around the fixed lungs.

    Args:
        fixed: chest CT, HU.
        moving: chest CT, HU, on any grid.
        fixed_mask: lungs on the grid of `fixed`, nonzero inside.
        moving_mask: lungs on the grid of `moving`.
        matrix: (4, 4), fixed world to moving world, RAS mm.
        config: settings.

    Returns:
        -1 to 1; -1 where less than a quarter of the points lands in the moving image.
    """
    lungs = common_lungs(fixed_mask, moving_mask, config.remnant)
    return _level(fixed, moving, *lungs, config.spacings_mm[0], config).ncc(matrix)


def at_limit(matrix: np.ndarray, config: PrealignmentConfig) -> list[str]:
    """Which parts of a linear map are at their bounds.

    Args:
        matrix: (4, 4), as `prealign` returns it.
        config: settings.

    Returns:
        Some of "rotation", "scale" and "shear".
    """
    rotation, upper = np.linalg.qr(matrix[:3, :3])
    signs = np.sign(np.diag(upper))
    turn = Rotation.from_matrix(rotation * signs).as_rotvec()
    upper = signs[:, None] * upper
    parts = {
        "rotation": (turn, config.largest_rotation_rad),
        "scale": (np.log(np.diag(upper)), config.largest_log_scale),
        "shear": (upper[np.triu_indices(3, 1)], config.largest_shear),
    }
    return [name for name, (found, most) in parts.items() if np.abs(found).max() > 0.98 * most]


def at_spacing(volume: Volume, spacing_mm: float) -> Volume:
    """Reduces an image or mask by block means.

    Args:
        volume: image in HU, or mask of an integer type.
        spacing_mm: voxel size wanted; the result has about this.

    Returns:
        The image, or the mask: true where more than half of a block is.
    """
    data, affine = _reduce(volume, spacing_mm)
    mask = volume.data.dtype.kind in "bui"
    return Volume((data > 0.5).astype(np.uint8) if mask else data, affine)


@dataclasses.dataclass(frozen=True, eq=False)
class _Level:
    """The two images on reduced grids; the points are voxel centres of the fixed one."""

    points: np.ndarray  # (4, N) world mm and a row of ones, in and around the fixed lungs
    values: np.ndarray  # (N,) HU
    in_lung: np.ndarray  # (N,) bool
    moving: np.ndarray  # (X, Y, Z) HU
    moving_lung: np.ndarray  # (X, Y, Z) fraction of lung in the voxel
    gradient: tuple[np.ndarray, ...]  # of `moving`, HU per voxel
    voxel_from_world: np.ndarray  # (4, 4) of the moving grid

    def voxels(self, matrix: np.ndarray) -> np.ndarray:
        """The points mapped to voxel coordinates of the moving grid, (3, N)."""
        # einsum, here and below: threads of a BLAS cost more than they save on such arrays
        return np.einsum("ij,jn->in", (self.voxel_from_world @ matrix)[:3], self.points)

    def inside(self, voxels: np.ndarray) -> np.ndarray:
        """Whether voxel coordinates (3, N) lie in the moving image, (N,)."""
        last = np.array(self.moving.shape)[:, None] - 1
        return np.all((voxels >= -0.5) & (voxels <= last + 0.5), axis=0)

    def ncc(self, matrix: np.ndarray) -> float:
        """NCC over the points that land in the moving image; -1 if less than a quarter does."""
        return self.ncc_and_slope(matrix)[0]

    def ncc_and_slope(self, matrix: np.ndarray) -> tuple[float, np.ndarray]:
        """NCC and its derivative by the first three rows of `matrix`, (3, 4)."""
        voxels = self.voxels(matrix)
        inside = self.inside(voxels)
        if inside.mean() < 0.25:
            return -1.0, np.zeros((3, 4))
        voxels = voxels[:, inside]
        warped, spread = _standardise(_sample(self.moving, voxels))
        values, _ = _standardise(self.values[inside])
        ncc = np.mean(warped * values)
        by_warped = (values - ncc * warped) / (len(values) * spread)
        by_voxel = by_warped * np.stack([_sample(g, voxels + 1) for g in self.gradient])
        slope = np.einsum("in,jn->ij", by_voxel, self.points[:, inside])
        return float(ncc), self.voxel_from_world[:3, :3].T @ slope

    def overlap(self, matrix: np.ndarray) -> float:
        """Dice coefficient of the lungs over the points that land in the moving image."""
        voxels = self.voxels(matrix)
        inside = self.inside(voxels)
        fraction = _sample(self.moving_lung, voxels[:, inside])
        in_lung = self.in_lung[inside]
        return float(2 * fraction[in_lung].sum() / max(in_lung.sum() + fraction.sum(), 1.0))


def _limits_mm(config: PrealignmentConfig) -> np.ndarray:
    """Bounds of the twelve parameters: rotation, shift, scales, shears."""
    rotation, scale = _ARM_MM * config.largest_rotation_rad, _ARM_MM * config.largest_log_scale
    return np.repeat([rotation, config.largest_shift_mm, scale, _ARM_MM * config.largest_shear], 3)


def _starts(
    fixed_lungs: Volume, moving_lungs: Volume, spacing_mm: float, limits_mm: np.ndarray
) -> tuple[tuple[np.ndarray, np.ndarray], dict[str, np.ndarray]]:
    """Centroids of the lungs, and parameters of the maps that need no fit."""
    reduced = [_reduce(lungs, spacing_mm) for lungs in (fixed_lungs, moving_lungs)]
    points = [transform(a, np.argwhere(lungs >= lungs.max() / 2)) for lungs, a in reduced]
    centres = (points[0].mean(0), points[1].mean(0))
    centroids, moments, identity = np.zeros((3, 12))
    extents_mm = [p.std(0) + 1.0 for p in points]  # a mask may be one voxel thick
    moments[6:9] = _ARM_MM * np.log(extents_mm[1] / extents_mm[0])
    identity[3:6] = centres[0] - centres[1]
    starts = {"centroids": centroids, "moments": moments, "identity": identity}
    return centres, {n: p for n, p in starts.items() if np.all(np.abs(p) < 0.9 * limits_mm)}


def _matrix(parameters: np.ndarray, fixed_centre: np.ndarray, moving_centre: np.ndarray):
    """The (4, 4) matrix of T, see the module docstring."""
    rotation, scales, shears = (parameters[i : i + 3] / _ARM_MM for i in (0, 6, 9))
    upper = np.diag(np.exp(scales))
    upper[np.triu_indices(3, 1)] = shears
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(rotation).as_matrix() @ upper
    matrix[:3, 3] = moving_centre + parameters[3:6] - matrix[:3, :3] @ fixed_centre
    return matrix


def _level(
    fixed: Volume,
    moving: Volume,
    fixed_lungs: Volume,
    moving_lungs: Volume,
    spacing_mm: float,
    config: PrealignmentConfig,
) -> _Level:
    """Both images at about `spacing_mm`."""
    values, affine = _reduce(fixed, spacing_mm, window_hu=config.window_hu)
    lung = _reduce(fixed_lungs, spacing_mm)[0] > 0.5
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    distance_mm = ndimage.distance_transform_edt(~lung, sampling=spacing)
    chosen = np.argwhere(np.asarray(distance_mm) <= config.margin_mm)
    chosen = chosen[:: 1 + len(chosen) // config.points]
    at = tuple(chosen.T)
    image, moving_affine = _reduce(moving, spacing_mm, window_hu=config.window_hu)
    return _Level(
        points=np.vstack([transform(affine, chosen).T, np.ones(len(chosen))]),
        values=values[at].astype(np.float64),
        in_lung=lung[at],
        moving=image,
        moving_lung=_reduce(moving_lungs, spacing_mm)[0],
        gradient=tuple(np.gradient(np.pad(image, 1, mode="edge"))),
        voxel_from_world=np.linalg.inv(moving_affine),
    )


def _reduce(
    volume: Volume, spacing_mm: float, *, window_hu: tuple[float, float] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Block means at about `spacing_mm`, values clipped, and the affine of the reduced grid."""
    factors = np.maximum(1, np.rint(spacing_mm / np.array(volume.spacing_mm))).astype(int)
    image = volume.data.astype(np.float32)
    image = image if window_hu is None else np.clip(image, *window_hu)
    return block_mean(image, factors), block_affine(volume.affine, factors)


def _sample(image: np.ndarray, voxels: np.ndarray) -> np.ndarray:
    return ndimage.map_coordinates(image, voxels, order=1, mode="nearest", output=np.float64)


def _standardise(values: np.ndarray) -> tuple[np.ndarray, float]:
    """Values at mean 0 and standard deviation 1, and the deviation that they had."""
    spread = float(values.std()) + 1e-6
    return (values - values.mean()) / spread, spread


def _fit(
    level: _Level,
    start: np.ndarray,
    free: int,
    centres: tuple[np.ndarray, np.ndarray],
    limits_mm: np.ndarray,
) -> np.ndarray:
    """Parameters of highest NCC; only the first `free` of them move."""

    def objective(moved: np.ndarray) -> tuple[float, np.ndarray]:
        parameters = np.concatenate([moved, start[free:]])
        matrix = _matrix(parameters, *centres)
        ncc, slope = level.ncc_and_slope(matrix)
        steps = [_matrix(parameters + h, *centres) - matrix for h in 1e-4 * np.eye(12)[:free]]
        return -ncc, np.array([-np.sum(slope * step[:3]) / 1e-4 for step in steps])

    solution = optimize.minimize(
        objective,
        start[:free],
        jac=True,
        method="L-BFGS-B",
        bounds=[(-limit, limit) for limit in limits_mm[:free]],
        options={"maxiter": 100, "ftol": 1e-6, "gtol": 1e-6},
    )
    return np.concatenate([solution.x, start[free:]])


def _helps(level: _Level, new: np.ndarray, old: np.ndarray, overlap_loss: float) -> bool:
    """Whether a map has a higher NCC than another and about its overlap of the lungs."""
    gain = level.overlap(new) - level.overlap(old)
    return bool(level.ncc(new) > level.ncc(old) and gain > -overlap_loss)

"""Pairs that do not belong together or show different things, and pairs that are right but hard.

Each kind is a function from a `Scene`, a right pair with its ground truth, to another one. They are
made of development pairs and of phantoms, and serve `trust.py` alone.
"""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from harness import development_pairs
from scipy import ndimage

from jaxreg.geometry.volume import Volume
from jaxreg.io.nifti import read_volume
from jaxreg.phantom.pair import phantom_pair

PHANTOM_SEED = 40_000_000  # no training, test or evaluation draws from here
PHANTOM_SHAPE = (144, 120, 136)
AIR, FLUID = -1000.0, 15.0  # HU


@dataclasses.dataclass(frozen=True, eq=False)
class Scene:
    """A pair and what is known of it.

    Attributes:
        anatomy: whose thorax it is.
        fixed: HU.
        moving: HU.
        fixed_lungs: 1 patient's right and 2 left, on the grid of `fixed`.
        moving_lungs: the same of `moving`, before anything was done to it.
        fixed_points: RAS mm, (N, 3).
        moving_points: where they are in the moving image.
        shown: whether the moving image shows each of them, (N,).
        left: whether each of them is in the left lung, (N,).
    """

    anatomy: str
    fixed: Volume
    moving: Volume
    fixed_lungs: Volume
    moving_lungs: Volume
    fixed_points: np.ndarray
    moving_points: np.ndarray
    shown: np.ndarray
    left: np.ndarray


def scenes(folder: Path, phantoms: int) -> Iterator[Scene]:
    """Yields the development pairs and generated ones."""
    for pair, fixed, moving, points in development_pairs(folder):
        lungs = [read_volume(pair / f"{name}_labels.nii.gz") for name in ("fixed", "moving")]
        yield _scene(pair.name, fixed, moving, *lungs, points.fixed, points.moving)
    for number in range(phantoms):
        yield phantom_scene(number)


def phantom_scene(number: int) -> Scene:
    """Generated subject `number` in quiet or deep respiration."""
    pair = phantom_pair(
        PHANTOM_SEED + number,
        shape=PHANTOM_SHAPE,
        motion=("4dct", "breath-hold")[number % 2],
        fixed_phase=("inhale", "exhale")[number // 2 % 2],
    )
    lungs = [_sides(lobes) for lobes in (pair.fixed_labels, pair.moving_labels)]
    points = pair.fixed_landmarks, pair.moving_landmarks
    return _scene(f"phantom{number}", pair.fixed, pair.moving, *lungs, *points)


def _sides(lobes: Volume) -> Volume:
    sides = np.where(lobes.data > 3, 2, lobes.data > 0)
    return Volume(sides.astype(np.uint8), lobes.affine)


def _scene(name, fixed, moving, fixed_lungs, moving_lungs, fixed_points, moving_points):
    labels = _values(moving_lungs, moving_points)
    return Scene(
        anatomy=name,
        fixed=fixed,
        moving=moving,
        fixed_lungs=fixed_lungs,
        moving_lungs=moving_lungs,
        fixed_points=np.asarray(fixed_points, float),
        moving_points=np.asarray(moving_points, float),
        shown=np.ones(len(fixed_points), bool),
        left=labels == 2,
    )


def _values(volume, points):
    voxels = volume.voxel_from_world(points).T
    return ndimage.map_coordinates(volume.data, voxels, order=0, mode="nearest")


def _world(volume: Volume) -> np.ndarray:
    """World positions of all voxels, (X, Y, Z, 3)."""
    return volume.world_from_voxel(np.moveaxis(np.indices(volume.shape), 0, -1))


def _with_moving(scene: Scene, data: np.ndarray, hidden: np.ndarray | None = None) -> Scene:
    """The scene with another moving image; what is hidden shows no lung tissue any more."""
    moving = Volume(np.asarray(data, np.float32), scene.moving.affine)
    shown = scene.shown
    if hidden is not None:
        near = ndimage.binary_dilation(hidden, iterations=1)  # the edge shows nothing either
        where = Volume(near.astype(np.uint8), scene.moving.affine)
        shown = shown & (_values(where, scene.moving_points) == 0)
    return dataclasses.replace(scene, moving=moving, shown=shown)


def _blurred(mask: np.ndarray) -> np.ndarray:
    return ndimage.gaussian_filter(mask.astype(np.float32), 0.7)


def _noise(scene: Scene, seed: int, sd: float = 15.0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return ndimage.gaussian_filter(random.normal(0, 2.5 * sd, scene.moving.shape), 0.7)


def _fill(scene, part, hu, seed):
    """The moving image with a part of its lungs replaced by homogeneous matter."""
    share = _blurred(part)
    data = scene.moving.data * (1 - share) + (hu + _noise(scene, seed)) * share
    return _with_moving(scene, data, part)


# Pairs that are wrong, in all or in part.


def effusion(scene: Scene, *, side: int = 2, level: float = 0.45) -> Scene:
    """Fluid in the lower and dorsal part of a lung."""
    lung = scene.moving_lungs.data == side
    world = _world(scene.moving)
    height = world[..., 2] + 0.35 * world[..., 1]  # the surface of the fluid is tilted
    part = lung & (height < np.quantile(height[lung], level))
    return _fill(scene, part, FLUID, 1)


def whole_effusion(scene: Scene) -> Scene:
    """A lung full of fluid."""
    return _fill(scene, scene.moving_lungs.data == 2, FLUID, 2)


def missing_lung(scene: Scene) -> Scene:
    """The right lung removed, soft tissue in its place."""
    return _fill(scene, scene.moving_lungs.data == 1, 40.0, 3)


def pneumothorax(scene: Scene, *, side: int = 2, scale: float = 0.6) -> Scene:
    """A lung collapsed towards its hilum, air around it."""
    lung = scene.moving_lungs.data == side
    inside = np.argwhere(lung)
    middle = inside.mean(0)
    # the hilum: at half height, nearest to the other lung
    other = np.argwhere((scene.moving_lungs.data > 0) & ~lung).mean(0)
    hilum = middle + 0.5 * (other - middle)
    moved = (np.moveaxis(np.indices(lung.shape), 0, -1) - hilum) / scale + hilum
    places = np.moveaxis(moved, -1, 0)
    collapsed = ndimage.map_coordinates(lung.astype(np.float32), places, order=1)
    collapsed = np.where(lung, collapsed, 0)
    tissue = ndimage.map_coordinates(scene.moving.data, places, order=1, mode="nearest")
    tissue = np.clip(tissue + 250.0, -1000.0, 100.0)
    data = np.where(lung, AIR + _noise(scene, 4), scene.moving.data)
    data = data * (1 - collapsed) + tissue * collapsed
    hidden = lung  # nothing of it is where it was
    return _with_moving(scene, data, hidden)


def narrow_view(scene: Scene, *, diameter_mm: float = 230.0, padding: float = -2048.0) -> Scene:
    """A field of view that cuts the lungs at their sides, padded."""
    world = _world(scene.moving)
    middle = world[scene.moving_lungs.data > 0].mean(0)
    outside = np.hypot(*(world[..., a] - middle[a] for a in (0, 1))) > diameter_mm / 2
    return _with_moving(scene, np.where(outside, padding, scene.moving.data), outside)


def short_scan(scene: Scene, *, share: float = 0.5) -> Scene:
    """A moving image that ends in the middle of the lungs."""
    lungs = scene.moving_lungs.data > 0
    planes = np.flatnonzero(lungs.any((0, 1)))
    first = int(planes[0] + share * (planes[-1] - planes[0]))
    moving = scene.moving
    affine = moving.affine.copy()
    affine[:3, 3] = moving.world_from_voxel(np.array([0, 0, first]))
    cut = np.zeros(moving.shape, bool)
    cut[:, :, :first] = True
    whole = _with_moving(scene, moving.data, cut)
    return dataclasses.replace(whole, moving=Volume(moving.data[:, :, first:], affine))


def _turned(*signs: float) -> Callable[[Scene], Scene]:
    """The header says another orientation about the middle of the image."""

    def turn(scene):
        moving = scene.moving
        middle = moving.world_from_voxel((np.array(moving.shape) - 1) / 2)
        change = np.diag([*signs, 1.0])
        change[:3, 3] = middle - change[:3, :3] @ middle
        turned = Volume(moving.data, change @ moving.affine)
        return dataclasses.replace(scene, moving=turned, shown=np.zeros_like(scene.shown))

    return turn


def _scaled(*factors: float) -> Callable[[Scene], Scene]:
    """The header gives other voxel sizes."""

    def scale(scene):
        moving = scene.moving
        affine = moving.affine @ np.diag([*factors, 1.0])
        return dataclasses.replace(
            scene, moving=Volume(moving.data, affine), shown=np.zeros_like(scene.shown)
        )

    return scale


def other_patient(scene: Scene, other: Scene) -> Scene:
    """The moving image is of somebody else."""
    return dataclasses.replace(
        scene,
        moving=other.moving,
        moving_lungs=other.moving_lungs,
        shown=np.zeros_like(scene.shown),
    )


WRONG: dict[str, Callable[[Scene], Scene]] = {
    "effusion": effusion,
    "lung full of fluid": whole_effusion,
    "lung missing": missing_lung,
    "pneumothorax": pneumothorax,
    "field of view 230 mm": narrow_view,
    "field of view 230 mm, air": lambda scene: narrow_view(scene, padding=-1024.0),
    "half a scan": short_scan,
    "head and feet exchanged": _turned(1, 1, -1),
    "right and left exchanged": _turned(-1, 1, 1),
    "half turn": _turned(-1, -1, 1),
    "metre": _scaled(1e3, 1e3, 1e3),
    "slices twice as far apart": _scaled(1, 1, 2),
}


# Of these a part of the truth is known.
PARTLY_WRONG = (
    "effusion",
    "lung full of fluid",
    "lung missing",
    "pneumothorax",
    "field of view 230 mm",
    "field of view 230 mm, air",
    "half a scan",
)


# Pairs that are right, but hard.


def doubled_slab(scene: Scene, *, thickness_mm: float = 20.0) -> Scene:
    """A slab shown twice, as 4DCT binning does."""
    moving = scene.moving
    planes = np.flatnonzero((scene.moving_lungs.data > 0).any((0, 1)))
    start = int(planes[0] + 0.4 * (planes[-1] - planes[0]))
    count = max(1, round(thickness_mm / moving.spacing_mm[2]))
    data = np.array(moving.data)
    data[:, :, start : start + count] = moving.data[:, :, start + count : start + 2 * count]
    hidden = np.zeros(moving.shape, bool)
    hidden[:, :, start : start + count] = True
    return _with_moving(scene, data, hidden)


def nodule(scene: Scene) -> Scene:
    """A nodule of 20 mm in the fixed image, of 60 mm in the moving one."""
    chosen = scene.fixed_points.mean(0)
    right = ~scene.left
    nearest = np.argmin(np.linalg.norm(scene.fixed_points[right] - chosen, axis=1))
    centres = scene.fixed_points[right][nearest], scene.moving_points[right][nearest]
    images, balls = [], []
    for volume, lungs, centre, radius in zip(
        (scene.fixed, scene.moving),
        (scene.fixed_lungs, scene.moving_lungs),
        centres,
        (10.0, 30.0),
        strict=True,
    ):
        ball = np.linalg.norm(_world(volume) - centre, axis=-1) < radius
        ball &= lungs.data == 1
        share = _blurred(ball)
        images.append(volume.data * (1 - share) + 40.0 * share)
        balls.append(ball)
    fixed = Volume(images[0].astype(np.float32), scene.fixed.affine)
    return dataclasses.replace(_with_moving(scene, images[1], balls[1]), fixed=fixed)


def contrast(scene: Scene) -> Scene:
    """Contrast agent in the vessels, and the patient 150 mm further down the table."""
    data = scene.moving.data
    lung = scene.moving_lungs.data > 0
    vessels = ndimage.gaussian_filter(((data > -500) & lung).astype(np.float32), 0.5)
    soft = ndimage.gaussian_filter(((data > 0) & (data < 100)).astype(np.float32), 1.5)
    affine = scene.moving.affine.copy()
    affine[2, 3] += 150.0
    shifted = scene.moving_points + np.array([0, 0, 150.0])
    moving = Volume((data + 200 * vessels + 60 * soft).astype(np.float32), affine)
    lungs = Volume(scene.moving_lungs.data, affine)
    return dataclasses.replace(scene, moving=moving, moving_lungs=lungs, moving_points=shifted)


def shifted_hu(scene: Scene) -> Scene:
    """All values 200 HU too high."""
    return _with_moving(scene, scene.moving.data + 200.0)


def low_dose(scene: Scene) -> Scene:
    """Noise of a very low dose."""
    return _with_moving(scene, scene.moving.data + _noise(scene, 5, 80.0))


def thick_slices(scene: Scene, *, thickness_mm: float = 8.0) -> Scene:
    """Slices of 8 mm."""
    moving = scene.moving
    count = max(1, round(thickness_mm / moving.spacing_mm[2]))
    size = moving.shape[2] // count * count
    data = moving.data[:, :, :size].reshape(*moving.shape[:2], -1, count).mean(-1)
    blocks = np.diag([1.0, 1.0, count, 1.0])
    blocks[2, 3] = (count - 1) / 2
    return dataclasses.replace(
        scene, moving=Volume(data.astype(np.float32), moving.affine @ blocks)
    )


def emphysema(scene: Scene) -> Scene:
    """The upper half of a lung darker by 60 HU in the moving image, with holes."""
    random = np.random.default_rng(6)
    lung = scene.moving_lungs.data == 1
    z = np.indices(lung.shape)[2]
    upper = lung & (z > z[lung].mean())
    holes = ndimage.gaussian_filter(random.normal(size=lung.shape), 3.0)
    holes = (holes > np.quantile(holes, 0.85)) & (scene.moving.data < -700)
    share = _blurred(upper)
    data = scene.moving.data - 60.0 * share - 80.0 * share * _blurred(holes)
    return _with_moving(scene, np.maximum(data, -1010.0))


def turned_body(scene: Scene) -> Scene:
    """The patient lies turned by 12 degrees about the axis of the body."""
    turn = np.eye(4)
    angle = np.deg2rad(12.0)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    moving = Volume(scene.moving.data, turn @ scene.moving.affine)
    lungs = Volume(scene.moving_lungs.data, moving.affine)
    points = scene.moving_points @ turn[:3, :3].T
    return dataclasses.replace(scene, moving=moving, moving_lungs=lungs, moving_points=points)


def as_it_is(scene: Scene) -> Scene:
    """Nothing is done to it."""
    return scene


RIGHT: dict[str, Callable[[Scene], Scene]] = {
    "as it is": as_it_is,
    "slab doubled": doubled_slab,
    "nodule grown": nodule,
    "contrast, 150 mm": contrast,
    "HU + 200": shifted_hu,
    "low dose": low_dose,
    "slices of 8 mm": thick_slices,
    "emphysema": emphysema,
    "body turned": turned_body,
}

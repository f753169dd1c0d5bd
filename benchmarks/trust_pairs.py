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
HELD_OUT_PAIRS = ("cip64_m5",)
CHOSEN_PHANTOMS, HELD_OUT_PHANTOMS = (0, 1, 2), (10, 11, 12, 13)
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


def scenes(folder: Path, *, held_out: bool) -> Iterator[Scene]:
    """Yields the anatomies on which thresholds were chosen, or those on which they were not.

    `cip64_m5` is the scan of `cip64_m2` in other motion.
    """
    for pair, fixed, moving, points in development_pairs(folder):
        if (pair.name in HELD_OUT_PAIRS) == held_out:
            lungs = [read_volume(pair / f"{name}_labels.nii.gz") for name in ("fixed", "moving")]
            yield _scene(pair.name, fixed, moving, *lungs, points.fixed, points.moving)
    for number in HELD_OUT_PHANTOMS if held_out else CHOSEN_PHANTOMS:
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
    fraction = _blurred(part)
    data = scene.moving.data * (1 - fraction) + (hu + _noise(scene, seed)) * fraction
    return _with_moving(scene, data, part)


# Pairs that are wrong, in all or in part.


def slices_missing(scene: Scene, *, thickness_mm: float = 30.0) -> Scene:
    """Slices left out of the middle of the moving lungs, and the rest put together."""
    moving = scene.moving
    count = round(thickness_mm / moving.spacing_mm[2])
    planes = np.flatnonzero((scene.moving_lungs.data > 0).any((0, 1)))
    first = int(planes[0] + planes[-1] - count) // 2
    voxels = moving.voxel_from_world(scene.moving_points)
    above = voxels[:, 2] > first + count - 0.5
    shown = scene.shown & (above | (voxels[:, 2] < first - 0.5))
    voxels[above, 2] -= count
    return dataclasses.replace(
        scene,
        moving=Volume(np.delete(moving.data, np.s_[first : first + count], axis=2), moving.affine),
        moving_points=moving.world_from_voxel(voxels),
        shown=shown,
    )


def slices_displaced(scene: Scene, *, axis: int = 0, shift_mm: float = 12.0) -> Scene:
    """The upper half of the moving scan shifted within its planes: the patient moved meanwhile."""
    moving = scene.moving
    planes = np.flatnonzero((scene.moving_lungs.data > 0).any((0, 1)))
    first = int(planes[0] + planes[-1]) // 2
    count = round(shift_mm / moving.spacing_mm[axis])
    data = np.array(moving.data)
    data[:, :, first:] = np.roll(data[:, :, first:], count, axis)
    voxels = moving.voxel_from_world(scene.moving_points)
    voxels[voxels[:, 2] > first - 0.5, axis] += count
    return dataclasses.replace(
        scene,
        moving=Volume(data, moving.affine),
        moving_points=moving.world_from_voxel(voxels),
    )


def effusion(scene: Scene, *, side: int = 2, level: float = 0.45) -> Scene:
    """Fluid in the lower and dorsal part of a lung."""
    lung = scene.moving_lungs.data == side
    world = _world(scene.moving)
    height = world[..., 2] + 0.35 * world[..., 1]  # the surface of the fluid is tilted
    part = lung & (height < np.quantile(height[lung], level))
    return _fill(scene, part, FLUID, 1)


def fluid_at_the_back(scene: Scene, *, level: float = 0.35) -> Scene:
    """Fluid in the dorsal part of both lungs: the outlines of the lungs say another motion."""
    lungs = scene.moving_lungs.data > 0
    y = _world(scene.moving)[..., 1]
    return _fill(scene, lungs & (y < np.quantile(y[lungs], level)), FLUID, 9)


def slices_exchanged(scene: Scene, *, count: int = 4) -> Scene:
    """Blocks of slices exchanged with their neighbours, as files in a wrong order are."""
    moving = scene.moving
    slices = np.arange(moving.shape[2])
    other = np.where(slices // count % 2 == 0, slices + count, slices - count)
    order = np.where(other < len(slices), other, slices)  # its own inverse
    voxels = moving.voxel_from_world(scene.moving_points)
    nearest = np.clip(np.round(voxels[:, 2]).astype(int), 0, len(slices) - 1)
    voxels[:, 2] += order[nearest] - nearest
    return dataclasses.replace(
        scene,
        moving=Volume(moving.data[:, :, order], moving.affine),
        moving_points=moving.world_from_voxel(voxels),
    )


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


def short_scan(scene: Scene, *, fraction: float = 0.5) -> Scene:
    """A moving image that ends in the middle of the lungs."""
    lungs = scene.moving_lungs.data > 0
    planes = np.flatnonzero(lungs.any((0, 1)))
    first = int(planes[0] + fraction * (planes[-1] - planes[0]))
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


def exchanged(change: Callable[[Scene], Scene]) -> Callable[[Scene], Scene]:
    """The same done to the fixed image; points that it hides are not asked about."""

    def turn_round(scene: Scene) -> Scene:
        return dataclasses.replace(
            scene,
            fixed=scene.moving,
            moving=scene.fixed,
            fixed_lungs=scene.moving_lungs,
            moving_lungs=scene.fixed_lungs,
            fixed_points=scene.moving_points,
            moving_points=scene.fixed_points,
        )

    def change_fixed(scene):
        changed = turn_round(change(turn_round(scene)))
        seen = changed.shown
        return dataclasses.replace(
            changed,
            fixed_points=changed.fixed_points[seen],
            moving_points=changed.moving_points[seen],
            shown=seen[seen],
            left=changed.left[seen],
        )

    return change_fixed


def _scaled(*factors: float) -> Callable[[Scene], Scene]:
    """The header gives other voxel sizes: points are where it says."""

    def scale(scene):
        affine = scene.moving.affine
        return _placed(scene, affine @ np.diag([*factors, 1.0]) @ np.linalg.inv(affine))

    return scale


def other_patient(scene: Scene, other: Scene) -> Scene:
    """The moving image is of somebody else."""
    return dataclasses.replace(
        scene,
        moving=other.moving,
        moving_lungs=other.moving_lungs,
        shown=np.zeros_like(scene.shown),
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
        fraction = _blurred(ball)
        images.append(volume.data * (1 - fraction) + 40.0 * fraction)
        balls.append(ball)
    fixed = Volume(images[0].astype(np.float32), scene.fixed.affine)
    return dataclasses.replace(_with_moving(scene, images[1], balls[1]), fixed=fixed)


def contrast(scene: Scene) -> Scene:
    """Contrast agent in the vessels, and the patient 150 mm further down the table."""
    data = scene.moving.data
    lung = scene.moving_lungs.data > 0
    vessels = ndimage.gaussian_filter(((data > -500) & lung).astype(np.float32), 0.5)
    soft = ndimage.gaussian_filter(((data > 0) & (data < 100)).astype(np.float32), 1.5)
    shift = np.eye(4)
    shift[2, 3] = 150.0
    return _placed(_with_moving(scene, data + 200 * vessels + 60 * soft), shift)


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
    fraction = _blurred(upper)
    data = scene.moving.data - 60.0 * fraction - 80.0 * fraction * _blurred(holes)
    return _with_moving(scene, np.maximum(data, -1010.0))


def turned_body(scene: Scene) -> Scene:
    """The patient lies turned by 12 degrees about the axis of the body."""
    turn = np.eye(4)
    angle = np.deg2rad(12.0)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return _placed(scene, turn)


def as_it_is(scene: Scene) -> Scene:
    """Nothing is done to it."""
    return scene


def sharp_kernel(scene: Scene) -> Scene:
    """Edges enhanced, and the noise with them."""
    data = scene.moving.data
    smooth = ndimage.gaussian_filter(data, 1.0)
    return _with_moving(scene, data + 0.8 * (data - smooth) + 0.5 * _noise(scene, 7))


def tilted_body(scene: Scene) -> Scene:
    """The patient lies tilted by 10 degrees about the axis from right to left."""
    angle = np.deg2rad(10.0)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return _placed(scene, turn)


def moved_sideways(scene: Scene) -> Scene:
    """The patient lies 70 mm to the right and 40 mm further up."""
    shift = np.eye(4)
    shift[:3, 3] = 70.0, 40.0, 0.0
    return _placed(scene, shift)


def implant(scene: Scene) -> Scene:
    """A piece of metal in the chest wall of the moving image, with streaks across the lung."""
    lungs = scene.moving_lungs.data > 0
    world = _world(scene.moving)
    front = np.argwhere(lungs)[np.argmax(np.argwhere(lungs) @ scene.moving.affine[1, :3])]
    centre = scene.moving.world_from_voxel(front) + np.array([0.0, 12.0, 0.0])
    offset = world - centre
    metal = np.linalg.norm(offset, axis=-1) < 10.0
    angle = np.arctan2(offset[..., 1], offset[..., 0])
    near = np.exp(-((offset[..., 2] / 6.0) ** 2)) * 20.0 / (20.0 + np.hypot(*offset[..., :2].T).T)
    data = scene.moving.data + 300.0 * np.cos(9 * angle) * near
    return _with_moving(scene, np.where(metal, 3000.0, data))


def later_year(scene: Scene) -> Scene:
    """Scars and small nodules that the fixed image does not have."""
    random = np.random.default_rng(8)
    lungs = np.argwhere(scene.moving_lungs.data > 0)
    places = np.zeros(scene.moving.shape)
    places[tuple(lungs[random.choice(len(lungs), 60, replace=False)].T)] = 1.0
    sigma = 4.0 / np.asarray(scene.moving.spacing_mm)
    blobs = ndimage.gaussian_filter(places, sigma)
    return _with_moving(scene, scene.moving.data + 700.0 * np.minimum(blobs / blobs.max(), 1.0))


def _placed(scene: Scene, change: np.ndarray) -> Scene:
    """The moving scan elsewhere in the world."""
    moving, lungs = (
        Volume(volume.data, change @ volume.affine) for volume in (scene.moving, scene.moving_lungs)
    )
    points = scene.moving_points @ change[:3, :3].T + change[:3, 3]
    return dataclasses.replace(scene, moving=moving, moving_lungs=lungs, moving_points=points)


@dataclasses.dataclass(frozen=True)
class Kind:
    """A way to make a pair of another.

    Attributes:
        change: of the right pair; None takes the moving image of somebody else.
        wrong: "all" where nothing of the ground truth is left, "part" where it holds in what is
            shown, "" where the pair is right.
        chosen: whether thresholds and coefficients were chosen on pairs of this kind.
    """

    change: Callable[[Scene], Scene] | None
    wrong: str = ""
    chosen: bool = False


KINDS = {
    "as it is": Kind(as_it_is, "", True),
    "slab doubled": Kind(doubled_slab, "", True),
    "nodule grown": Kind(nodule, "", True),
    "contrast, 150 mm": Kind(contrast, "", True),
    "HU + 200": Kind(shifted_hu, "", True),
    "low dose": Kind(low_dose, "", True),
    "slices of 8 mm": Kind(thick_slices, "", True),
    "emphysema": Kind(emphysema, "", True),
    "body turned": Kind(turned_body, "", True),
    "sharp kernel": Kind(sharp_kernel),
    "body tilted": Kind(tilted_body),
    "moved sideways": Kind(moved_sideways),
    "metal": Kind(implant),
    "a later year": Kind(later_year),
    "fixed of low dose": Kind(exchanged(low_dose)),
    "fixed slices of 6 mm": Kind(
        exchanged(lambda scene: thick_slices(scene, thickness_mm=6.0)),
    ),
    "fixed emphysema": Kind(exchanged(emphysema)),
    "effusion": Kind(effusion, "part", True),
    "lung full of fluid": Kind(whole_effusion, "part", True),
    "lung missing": Kind(missing_lung, "part", True),
    "pneumothorax": Kind(pneumothorax, "part", True),
    "field of view 230 mm": Kind(narrow_view, "part", True),
    "field of view 230 mm, air": Kind(
        lambda scene: narrow_view(scene, padding=-1024.0), "part", True
    ),
    "half a scan": Kind(short_scan, "part", True),
    "other patient": Kind(None, "all", True),
    "head and feet exchanged": Kind(_turned(1, 1, -1), "all", True),
    "right and left exchanged": Kind(_turned(-1, 1, 1), "all", True),
    "half turn": Kind(_turned(-1, -1, 1), "all", True),
    "metre": Kind(_scaled(1e3, 1e3, 1e3), "part", True),
    "slices twice as far apart": Kind(_scaled(1, 1, 2), "part", True),
    "pixels 1.3 times too wide": Kind(_scaled(1.3, 1, 1), "part", True),
    "slices missing": Kind(slices_missing, "part", True),
    "slices displaced": Kind(slices_displaced, "part", True),
    "fluid in both lungs": Kind(fluid_at_the_back, "part", True),
    "slices exchanged": Kind(slices_exchanged, "part", True),
    "fixed effusion": Kind(exchanged(effusion), "part"),
    "effusion of a third": Kind(lambda scene: effusion(scene, side=1, level=0.33), "part"),
    "fixed lung missing": Kind(exchanged(missing_lung), "part"),
    "right pneumothorax": Kind(lambda scene: pneumothorax(scene, side=1, scale=0.5), "part"),
    "fixed view 200 mm": Kind(
        exchanged(lambda scene: narrow_view(scene, diameter_mm=200.0)), "part"
    ),
    "fixed scan of 60 %": Kind(exchanged(lambda scene: short_scan(scene, fraction=0.4)), "part"),
    "front and back exchanged": Kind(_turned(1, -1, 1), "all"),
    "all axes reversed": Kind(_turned(-1, -1, -1), "all"),
    "slices half as far apart": Kind(_scaled(1, 1, 0.5), "part"),
    "pixels 0.8 times too narrow": Kind(_scaled(0.8, 0.8, 1), "part"),
    "fixed slices missing": Kind(exchanged(lambda s: slices_missing(s, thickness_mm=25.0)), "part"),
    "fixed slices displaced": Kind(
        exchanged(lambda s: slices_displaced(s, axis=1, shift_mm=-15.0)), "part"
    ),
    "micrometre": Kind(_scaled(1e-3, 1e-3, 1e-3), "part"),
}

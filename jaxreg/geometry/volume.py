"""Images and displacement fields with their geometry, on the host.

Contract of everything in `jaxreg.geometry`:

- Arrays are (X, Y, Z) = NIfTI voxel indices (i, j, k); component c of a vector is axis c.
- `affine` (4, 4) takes a voxel index to world millimetres in RAS: x grows to the patient's right,
  y to anterior, z to superior. LPS (ITK, DICOM) stays inside the readers and writers of such files.
- Objects are frozen and checked once, when they are made; their arrays are read-only.
- Images are float32 or integers, labels and masks integer or boolean; affines and points are
  float64.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import scipy.ndimage

from jaxreg.geometry.grid import Box, checked_affine
from jaxreg.geometry.grid import Grid as Grid
from jaxreg.geometry.grid import transform as transform
from jaxreg.geometry.refinement import LONG_STEP, box_below
from jaxreg.geometry.sampling import sampled, sampled_cubic

_NO_IMAGE = "Replace them (outside of a scanner's field of view: by -1024)."
_NO_FIELD = "Register anew, or replace them by 0 where the field is not needed."
_VOXEL_MM = (0.005, 50.0)  # of a CT, from a mouse to the thickest slices
_FARTHEST_MM = 1e6  # from the world's origin; beyond it float32 headers lose tenths of a millimetre
_ALIGNMENT = 64  # bytes
_MOST_HU = 1e5  # metal on an extended scale has 30,000


class _Located:
    """An array whose first three axes are those of a grid."""

    data: np.ndarray
    affine: np.ndarray

    @property
    def grid(self) -> Grid:
        """Where the voxels lie."""
        x, y, z = self.data.shape[:3]
        return Grid((x, y, z), self.affine)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along each axis."""
        return self.grid.shape

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size along each array axis, millimetres."""
        return self.grid.spacing_mm


@dataclasses.dataclass(frozen=True, eq=False)
class Volume(_Located):
    """A 3-D image or label map and where it lies.

    Attributes:
        data: (X, Y, Z), finite; floating types become float32, integers and booleans are kept.
        affine: (4, 4), voxel index to world millimetres, RAS, float64.
    """

    data: np.ndarray
    affine: np.ndarray

    def __post_init__(self):
        """Checks and normalises both arrays."""
        data = np.asarray(self.data)
        if data.ndim != 3 or data.size == 0:
            raise ValueError(
                f"data: expected a 3-D array (X, Y, Z), got shape {data.shape}. "
                "Take one volume out of a series; a single slice cannot be registered."
            )
        object.__setattr__(self, "data", _checked_values(data, remedy=_NO_IMAGE))
        object.__setattr__(self, "affine", checked_affine(self.affine))

    def part(self, box: Box) -> "Volume":
        """Returns the voxels in a box, where they lie; nothing is copied."""
        return Volume(self.data[box], self.grid.part(box).affine)

    def world_from_voxel(self, points: np.ndarray) -> np.ndarray:
        """Returns world positions, RAS mm, of voxel coordinates (..., 3)."""
        return self.grid.world_from_voxel(points)

    def voxel_from_world(self, points: np.ndarray) -> np.ndarray:
        """Returns voxel coordinates of world positions (..., 3) in RAS mm."""
        return self.grid.voxel_from_world(points)


@dataclasses.dataclass(frozen=True, eq=False)
class DisplacementField(_Located):
    """The map T(x) = x + d(x) from world points of the fixed image to the moving image.

    Attributes:
        data: d on the fixed grid, (X, Y, Z, 3), world vectors in millimetres, RAS; float32, finite.
        affine: (4, 4) of the fixed grid, voxel index to world millimetres, RAS, float64.
    """

    data: np.ndarray
    affine: np.ndarray

    def __post_init__(self):
        """Checks and normalises both arrays."""
        data = np.asarray(self.data)
        if data.ndim != 4 or data.shape[-1] != 3 or data.size == 0:
            raise ValueError(
                f"data: expected displacement vectors (X, Y, Z, 3), got shape {data.shape}. "
                "Move the axis of the vector components to the end."
            )
        data = _checked_values(data.astype(np.float32, copy=False), remedy=_NO_FIELD)
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "affine", checked_affine(self.affine))

    @classmethod
    def from_voxels(cls, displacement: np.ndarray, affine: np.ndarray) -> "DisplacementField":
        """Returns the field of a displacement in voxels: d = R u, R the 3x3 part of `affine`.

        Args:
            displacement: u, (X, Y, Z, 3), voxels of the fixed grid.
            affine: (4, 4) of the fixed grid.
        """
        mm_from_voxel = np.asarray(affine, np.float32)[:3, :3]
        return cls(np.asarray(displacement, np.float32) @ mm_from_voxel.T, affine)

    def part(self, box: Box) -> "DisplacementField":
        """Returns the field at the voxels in a box; nothing is copied."""
        return DisplacementField(self.data[box], self.grid.part(box).affine)

    def to_voxels(self) -> np.ndarray:
        """Returns the displacement u = R^-1 d, (X, Y, Z, 3), in voxels of the fixed grid."""
        voxel_from_mm = np.linalg.inv(self.affine[:3, :3]).astype(np.float32)
        return self.data @ voxel_from_mm.T

    def index_shift(self, moving: Grid) -> np.ndarray:
        """Returns by how many voxels indices change: moving voxel of T(x) minus fixed voxel x.

        Several challenges want this, as they know images without a world: (X, Y, Z, 3), float32.
        The same as `to_voxels` where both grids agree.

        Args:
            moving: grid of the moving image.
        """
        voxel_from_world = np.linalg.inv(moving.affine)
        offset = voxel_from_world @ self.affine - np.eye(4)
        shift = self.data @ voxel_from_world[:3, :3].T.astype(np.float32)
        for axis, n in enumerate(self.shape):
            place = np.arange(n).reshape([-1 if a == axis else 1 for a in range(3)])
            shift += (place[..., None] * offset[:3, axis]).astype(np.float32)
        return shift + offset[:3, 3].astype(np.float32)

    def on_grid(self, grid: Grid) -> "DisplacementField":
        """Returns d on another grid: trilinear, and outside of this grid its value at the edge."""
        data = np.empty((*grid.shape, 3), np.float32)
        lattice = np.linalg.inv(self.affine) @ grid.affine
        for c in range(3):
            scipy.ndimage.affine_transform(
                self.data[..., c],
                lattice[:3, :3],
                offset=lattice[:3, 3],  # pyright: ignore[reportArgumentType] (scipy takes arrays)
                output_shape=grid.shape,
                output=data[..., c],
                order=1,
                mode="nearest",
            )
        return DisplacementField(data, grid.affine)

    def transform_points(self, points: np.ndarray) -> np.ndarray:
        """Returns T(x) = x + d(x) for world points x of the fixed image, (N, 3), RAS mm.

        d is interpolated trilinearly at x; outside of the grid it has its value at the edge.
        """
        points = np.asarray(points, np.float64)
        voxels = self.grid.voxel_from_world(points)
        components = [
            scipy.ndimage.map_coordinates(
                self.data[..., c], voxels.T, order=1, mode="nearest", output=np.float64
            )
            for c in range(3)
        ]
        return points + np.stack(components, axis=-1)


def resample(
    volume: Volume,
    affine: np.ndarray,
    shape: Sequence[int],
    *,
    matrix: np.ndarray | None = None,
    order: int = 1,
    fill: float | None = None,
) -> Volume:
    """Returns the volume on another grid.

    Output voxel j takes the value of the volume at world point matrix @ affine @ j. Where a step of
    the new grid is more than 1.5 voxels long the image is smoothed first, with the Gaussian whose
    full width at half maximum makes up the difference: sigma^2 = (r^2 - 1) / (8 ln 2) for a step of
    r voxels (Cardoso et al. 2015, MICCAI, "Scale factor point spread function matching", eq. 6).

    Args:
        volume: image, or label map with order 0.
        affine: (4, 4) of the new grid.
        shape: number of voxels of the new grid.
        matrix: (4, 4), world of the new grid to world of the volume, RAS mm; the identity if None.
        order: 0 nearest (labels; the type is kept), 1 linear, 3 nearly cubic
            (`jaxreg.geometry.refinement`).
        fill: value outside of the volume; its edge value if None.
    """
    matrix = np.eye(4) if matrix is None else matrix
    voxel_from_voxel = np.linalg.inv(volume.affine) @ matrix @ affine
    step = np.linalg.norm(voxel_from_voxel[:3, :3], axis=1)
    smoothed = order > 0 and bool(np.any(step > LONG_STEP))
    if not smoothed:  # a copy of what is needed, not of all
        volume = volume.part(box_below(volume.shape, voxel_from_voxel, shape))
        voxel_from_voxel = np.linalg.inv(volume.affine) @ matrix @ affine
    data = volume.data
    if order > 0:
        data = data.astype(np.float32, copy=False)
        if smoothed:
            missing = np.where(step > LONG_STEP, step**2 - 1, 0.0)
            sigma = np.sqrt(missing / (8 * np.log(2)))
            data = scipy.ndimage.gaussian_filter(data, sigma, mode="nearest", truncate=3.0)
    x, y, z = shape
    if order == 3:
        return Volume(sampled_cubic(data, voxel_from_voxel, (x, y, z), fill=fill), affine)
    if data.dtype == bool:
        data = data.view(np.uint8)
    data = sampled(data, voxel_from_voxel, (x, y, z), order=order, fill=fill)
    if volume.data.dtype == bool and order == 0:
        data = data.view(bool)
    return Volume(data, affine)


def compact(volume: Volume) -> Volume:
    """The same values in half of the memory, if they can be.

    Args:
        volume: an image.

    Returns:
        It as int16 if all values are whole numbers that int16 holds, as those of scanners are;
        else the volume itself. JAX can read the values on a CPU where they lie.
    """
    values = volume.data
    limits = np.iinfo(np.int16)
    if values.dtype != np.float32 or values.min() < limits.min or values.max() > limits.max:
        return volume
    stored = _aligned(values.shape, np.int16)
    for plane, whole in zip(values, stored, strict=True):
        whole[:] = plane
        if not np.array_equal(whole, plane):
            return volume
    return Volume(stored, volume.affine)


def _aligned(shape: Sequence[int], dtype: type) -> np.ndarray:
    """An array of any values that begins where JAX wants arrays to begin."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def require_same_grid(
    a: Grid | Volume | DisplacementField,
    b: Grid | Volume | DisplacementField,
    names: tuple[str, str],
) -> None:
    """Checks that two grids agree to 0.05 voxel at the corners.

    Args:
        a: a grid, or what lies on one.
        b: the same.
        names: of both, for the message.

    Raises:
        ValueError: they differ; the text has both grids.
    """
    grids = [x if isinstance(x, Grid) else x.grid for x in (a, b)]
    if not grids[0].matches(grids[1]):
        raise ValueError(
            f"{names[0]} and {names[1]}: expected one grid, got {grids[0]} and {grids[1]}. "
            "Resample one onto the other (jaxreg.geometry.volume.resample, order 0 for labels)."
        )


def check_ct(volume: Volume, name: str) -> None:
    """Checks that an image can be a CT in HU: its values, its voxel size and its position.

    Args:
        volume: the image.
        name: of the image, the first word of the message.

    Raises:
        ValueError: it cannot.
    """
    low, high = float(volume.data.min()), float(volume.data.max())
    least_mm, most_mm = _VOXEL_MM
    if not (least_mm <= min(volume.spacing_mm) and max(volume.spacing_mm) <= most_mm):
        raise ValueError(
            f"{name}: expected voxels of {least_mm:g} to {most_mm:g} mm, got "
            f"{' x '.join(f'{mm:g}' for mm in volume.spacing_mm)} mm. The header may give metres "
            "or micrometres as millimetres: correct it."
        )
    if np.abs(volume.affine[:3, 3]).max() > _FARTHEST_MM:
        raise ValueError(
            f"{name}: expected an image within {_FARTHEST_MM:,.0f} mm of the world's origin, got "
            f"its first voxel at {', '.join(f'{mm:g}' for mm in volume.affine[:3, 3])} mm. Correct "
            "the origin in the header."
        )
    if high > _MOST_HU:
        raise ValueError(
            f"{name}: expected Hounsfield units, got values up to {high:g}. Replace what is no "
            "measurement by -1024, and check the rescale slope."
        )
    if low == high:
        raise ValueError(
            f"{name}: expected a CT image, got the value {low:g} in every voxel. "
            "Check that the file is the one you meant."
        )
    if low > -300.0:
        raise ValueError(
            f"{name}: expected Hounsfield units with air near -1000, got values from {low:g} to "
            f"{high:g}. {_remedy(volume.data, low, high)}"
        )


def _remedy(data: np.ndarray, low: float, high: float) -> str:
    """What to do about an image whose values are no Hounsfield units, by their range."""
    if low >= -1 and high <= 1:
        return "They were scaled for a network or a picture: give the image as it was before."
    if low >= 0 and high <= 255 and np.array_equal(data, np.rint(data)):
        return "It is an 8-bit picture, which has lost most of its values: give the CT itself."
    if low < 0:
        return "Air is missing: give an uncropped CT, or convert the values if they are no HU."
    return (
        "Convert them first: HU = stored value * rescale slope + intercept (often: subtract 1024 "
        "or 1000; micro-CT: as calibrated with air and water)."
    )


def _checked_values(data: np.ndarray, *, remedy: str) -> np.ndarray:
    """Read-only view of finite numbers; floating types as float32."""
    if data.dtype.kind not in "biuf":
        raise ValueError(
            f"data: expected numbers, got type {data.dtype}. Convert complex or RGB data first."
        )
    if data.dtype.kind == "f":
        with np.errstate(over="ignore"):  # an overflow is infinite and refused below
            data = data.astype(np.float32, copy=False)
        bad = data.size - int(np.count_nonzero(np.isfinite(data)))
        if bad:
            raise ValueError(
                f"data: expected finite values, got NaN or infinity in {bad} of {data.size} "
                f"places. {remedy}"
            )
    data = data.view()
    data.flags.writeable = False
    return data

"""Where voxels lie in the world: shape and affine of an image without its values."""

import dataclasses
import itertools

import nibabel
import numpy as np

_SAME_GRID_TOLERANCE = 0.05  # voxels: more than the rounding of headers does at a corner


@dataclasses.dataclass(frozen=True, eq=False)
class Grid:
    """Where the voxels of an image lie.

    Attributes:
        shape: number of voxels along each axis (X, Y, Z).
        affine: (4, 4), voxel index to world millimetres, RAS, float64.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray

    def __post_init__(self):
        """Checks and normalises the affine."""
        object.__setattr__(self, "affine", checked_affine(self.affine))

    def __str__(self) -> str:
        """Shape, spacing, orientation and origin in one line, for messages."""
        shape = " x ".join(str(n) for n in self.shape)
        spacing = " x ".join(f"{s:.4g}" for s in self.spacing_mm)
        origin = ", ".join(f"{x:.2f}" for x in self.affine[:3, 3])
        axes = "".join(str(code) for code in nibabel.orientations.aff2axcodes(self.affine))
        return f"{shape} voxels of {spacing} mm, axes {axes}, origin ({origin}) mm RAS"

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size along each array axis, millimetres: lengths of the columns of the affine."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return (x, y, z)

    def world_from_voxel(self, points: np.ndarray) -> np.ndarray:
        """Returns world positions, RAS mm, of voxel coordinates (..., 3)."""
        return transform(self.affine, points)

    def voxel_from_world(self, points: np.ndarray) -> np.ndarray:
        """Returns voxel coordinates of world positions (..., 3) in RAS mm."""
        return transform(np.linalg.inv(self.affine), points)

    def matches(self, other: "Grid") -> bool:
        """Returns whether shapes agree and no corner differs by more than 0.05 voxel."""
        if self.shape != other.shape:
            return False
        corners = np.array(list(itertools.product(*[(0, n - 1) for n in self.shape])))
        apart = other.voxel_from_world(self.world_from_voxel(corners)) - corners
        return bool(np.abs(apart).max() <= _SAME_GRID_TOLERANCE)


def transform(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Returns points (..., 3) taken through a (4, 4) matrix, float64."""
    return np.asarray(points, np.float64) @ matrix[:3, :3].T + matrix[:3, 3]


def checked_affine(affine: np.ndarray) -> np.ndarray:
    """Returns the affine as a read-only float64 (4, 4), or raises ValueError if it is not one."""
    affine = np.array(affine, np.float64)
    if affine.shape != (4, 4):
        raise ValueError(
            f"affine: expected a (4, 4) matrix, got shape {affine.shape}. Append the row 0 0 0 1."
        )
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    regular = (
        np.all(np.isfinite(affine))
        and np.array_equal(affine[3], [0, 0, 0, 1])
        and np.all(lengths > 0)
        # volume of the unit parallelepiped: 1 for right angles, 0 for axes in one plane
        and abs(np.linalg.det(affine[:3, :3] / lengths)) > 1e-3
    )
    if not regular:
        raise ValueError(
            "affine: expected a finite invertible matrix with last row 0 0 0 1, got "
            f"{np.array2string(affine, precision=6, separator=', ').replace(chr(10), '')}. "
            "Check orientation and spacing in the file's header."
        )
    affine.flags.writeable = False
    return affine

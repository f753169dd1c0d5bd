"""Where voxels lie in the world: shape and affine of an image without its values."""

import dataclasses
import itertools
from typing import Any

import nibabel
import numpy as np

Box = tuple[slice, slice, slice]  # voxels of a grid, without a step
EVERYWHERE: Box = (slice(None), slice(None), slice(None))
SAME_GRID_TOLERANCE = 0.05  # voxels: more than the rounding of headers does at a corner


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

    def document(self) -> dict[str, Any]:
        """Returns shape (X, Y, Z) and affine (voxel to world, RAS mm) as JSON holds them."""
        return {"shape": list(self.shape), "affine": self.affine.tolist()}

    @classmethod
    def from_document(cls, value: object) -> "Grid | None":
        """Returns the grid of a `document`; None for anything else."""
        match value:
            case {"shape": [int(x), int(y), int(z)], "affine": list(affine)}:
                return cls((x, y, z), np.array(affine, float))
        return None

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

    def limits(self, box: Box) -> tuple[np.ndarray, np.ndarray]:
        """Returns the first voxel in a box and the one after the last, (3,) each."""
        ends = [side.indices(n)[:2] for side, n in zip(box, self.shape, strict=True)]
        low, high = np.array(ends).T
        return low, high

    def part(self, box: Box) -> "Grid":
        """Returns the grid of the voxels in a box."""
        low, high = self.limits(box)
        affine = np.array(self.affine)
        affine[:3, 3] = self.world_from_voxel(low)
        x, y, z = (high - low).tolist()
        return Grid((x, y, z), affine)

    def matches(self, other: "Grid") -> bool:
        """Returns whether shapes agree and no corner differs by more than 0.05 voxel."""
        return self.shape == other.shape and self.largest_shift(other) <= SAME_GRID_TOLERANCE

    def largest_shift(self, other: "Grid") -> float:
        """Returns by how many voxels of `other` its index of a corner differs from that here."""
        corners = self._corners()
        apart = other.voxel_from_world(self.world_from_voxel(corners)) - corners
        return float(np.abs(apart).max())

    def overlaps(self, other: "Grid") -> bool:
        """Returns whether the boxes of both, in the axes of either, have a part in common."""
        return self._box_meets(other) and other._box_meets(self)

    def _box_meets(self, other: "Grid") -> bool:
        voxels = self.voxel_from_world(other.world_from_voxel(other._corners()))
        last = np.array(self.shape) - 1
        return bool(np.all((voxels.max(axis=0) > -0.5) & (voxels.min(axis=0) < last + 0.5)))

    def has_lattice_of(self, other: "Grid") -> bool:
        """Returns whether voxels of `other` are voxels here, to 0.05 voxel, if this goes so far.

        The order and the directions of the axes may differ, and the extent.
        """
        lattice = np.linalg.inv(self.affine) @ other.affine
        whole = np.rint(lattice)
        permuted = np.array_equal(np.abs(whole[:3, :3]).sum(axis=0), np.ones(3))
        apart = transform(lattice - whole, other._corners())
        return permuted and bool(np.abs(apart).max() <= SAME_GRID_TOLERANCE)

    def has_voxels_of(self, other: "Grid") -> bool:
        """Returns whether both have the same voxels, to 0.05 voxel, in any order of the axes."""
        voxels = self.voxel_from_world(other.world_from_voxel(other._corners()))
        ends = voxels.min(axis=0), voxels.max(axis=0) - (np.array(self.shape) - 1)
        return self.has_lattice_of(other) and bool(np.abs(ends).max() <= SAME_GRID_TOLERANCE)

    def is_sheared(self) -> bool:
        """Returns whether right angles would put a corner more than 0.05 voxel elsewhere."""
        return self.largest_shift(Grid(self.shape, self._at_right_angles())) > SAME_GRID_TOLERANCE

    def rectangular(self) -> "Grid":
        """Returns a grid with right angles that covers this one: same spacing, nearest axes."""
        affine = self._at_right_angles()
        voxels = transform(np.linalg.inv(affine), self.world_from_voxel(self._corners()))
        low, high = np.floor(voxels.min(axis=0) + 1e-6), np.ceil(voxels.max(axis=0) - 1e-6)
        affine[:3, 3] = transform(affine, low)
        x, y, z = (int(n) + 1 for n in high - low)
        return Grid((x, y, z), affine)

    def reshaped(self, shape: tuple[int, int, int]) -> "Grid":
        """Grid of another shape over the same extent, to the borders of the outermost voxels."""
        factors = np.array(self.shape) / np.array(shape)
        affine = np.array(self.affine)
        affine[:3, 3] = self.world_from_voxel((factors - 1) / 2)
        affine[:3, :3] *= factors
        return Grid(shape, affine)

    def coarsened(self, spacing_mm: float) -> "Grid":
        """Returns the grid between the same corners with voxels of at most this size.

        Where voxels are as large already, an axis stays as it is; 0 keeps all of them.
        """
        if not spacing_mm:
            return self
        last = np.array(self.shape) - 1
        fewest = np.ceil(last * np.array(self.spacing_mm) / spacing_mm - 1e-6).astype(int)
        x, y, z = (int(n) for n in np.clip(fewest, np.minimum(last, 1), last))
        affine = np.array(self.affine)
        affine[:3, :3] *= np.maximum(last, 1) / np.maximum((x, y, z), 1)
        return Grid((x + 1, y + 1, z + 1), affine)

    def _corners(self) -> np.ndarray:
        """Voxel indices of the eight corners, (8, 3)."""
        return np.array(list(itertools.product(*[(0, n - 1) for n in self.shape])))

    def _at_right_angles(self) -> np.ndarray:
        """The affine with the nearest axes at right angles: of R = U S V^T, U V^T."""
        affine = np.array(self.affine)
        spacing = np.array(self.spacing_mm)
        u, _, vt = np.linalg.svd(affine[:3, :3] / spacing)
        affine[:3, :3] = u @ vt * spacing
        return affine


def transform(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Returns points taken through an affine matrix.

    Args:
        matrix: (4, 4).
        points: (..., 3).

    Returns:
        Points, (..., 3), float64.
    """
    return np.asarray(points, np.float64) @ matrix[:3, :3].T + matrix[:3, 3]


def checked_affine(affine: np.ndarray) -> np.ndarray:
    """Returns an affine as a read-only float64 array.

    Args:
        affine: voxel index to world mm, (4, 4).

    Returns:
        A copy, (4, 4).

    Raises:
        ValueError: another shape, another last row than 0 0 0 1, or not invertible.
    """
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

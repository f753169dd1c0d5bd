"""Thumbnails: registrations on a coarse grid in bytes, kept for the figures of a run.

A thumbnail is made when a case is scored, where the volumes are at hand, and is all that the
figures of a run need: they are drawn again without registering again. Its bytes stand for

    images       0 .. 255: -1000 to 200 HU, the lung window, clipped
    determinant  1 .. 255: log2 det from -1 to 1, clipped; 0: det <= 0 somewhere in this voxel
    lungs        0 and 1

Axes run closest to the patient's right, front and head; voxels are cubes.
"""

import dataclasses
import os
import zipfile
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from nibabel.orientations import inv_ornt_aff, io_orientation

from jaxreg.figures.views import WINDOW_HU, shown_box, upright, upright_spacing
from jaxreg.geometry.grid import Grid
from jaxreg.geometry.lung_grid import AIR_HU
from jaxreg.geometry.volume import Volume, require_same_grid, resample
from jaxreg.io.atomic import replacing

_LOW_HU, _RANGE_HU = WINDOW_HU[0], WINDOW_HU[1] - WINDOW_HU[0]


@dataclasses.dataclass(frozen=True, eq=False)
class Thumbnail:
    """A registration in bytes, see the module docstring; all arrays on one grid.

    Attributes:
        fixed: image, (X, Y, Z).
        moving: image at the fixed image's world positions.
        warped: moving image taken through the registration.
        determinant: of the Jacobian.
        lungs: of the fixed image.
        spacing_mm: length of a voxel's edge.
    """

    fixed: UInt8[np.ndarray, "X Y Z"]
    moving: UInt8[np.ndarray, "X Y Z"]
    warped: UInt8[np.ndarray, "X Y Z"]
    determinant: UInt8[np.ndarray, "X Y Z"]
    lungs: UInt8[np.ndarray, "X Y Z"]
    spacing_mm: float

    def resized(self, spacing_mm: float) -> "Thumbnail":
        """Returns the same view in voxels of another size; a fold stays a fold."""
        affine = np.diag([*[self.spacing_mm] * 3, 1.0])
        images = (self.fixed, self.moving, self.warped)
        return _sampled(
            [Volume(image_hu(image), affine) for image in images],
            Volume(determinant_values(self.determinant), affine),
            Volume(self.lungs, affine),
            grid=_grid(affine, self.lungs.shape, self.spacing_mm / np.full(3, spacing_mm)),
            spacing_mm=spacing_mm,
        )


def image_hu(image: UInt8[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Returns the HU that the bytes of an image stand for."""
    return _LOW_HU + np.float32(_RANGE_HU / 255) * image


def determinant_values(determinant: UInt8[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Returns the determinants that bytes stand for; 0 where it is <= 0."""
    values = np.exp2((determinant.astype(np.float32) - 128) / 127)
    return np.where(determinant > 0, values, np.float32(0))


def make_thumbnail(
    *,
    fixed: Volume,
    moving: Volume,
    warped: Volume,
    determinant: Volume,
    mask: Volume,
    spacing_mm: float = 2.5,
) -> Thumbnail:
    """Returns a small copy of a registration around the lungs.

    Args:
        fixed: HU.
        moving: HU on its own grid.
        warped: moving image taken through the registration, on the fixed grid.
        determinant: det(I + du/dx) on the fixed grid.
        mask: lungs on the fixed grid, nonzero inside.
        spacing_mm: length of a voxel's edge; by default small enough for a report.
    """
    for volume, name in ((warped, "warped"), (determinant, "determinant"), (mask, "mask")):
        require_same_grid(fixed, volume, ("fixed", name))
    affine = mask.affine @ inv_ornt_aff(io_orientation(mask.affine), mask.shape)  # upright
    steps_mm = upright_spacing(mask)
    box = shown_box(upright(mask) > 0, steps_mm)
    affine[:3, 3] += affine[:3, :3] @ [axis.start for axis in box]
    shape = [axis.stop - axis.start for axis in box]
    grid = _grid(affine, shape, steps_mm / spacing_mm)
    images = (fixed, moving, warped)
    return _sampled(images, determinant, mask, grid=grid, spacing_mm=spacing_mm)


def write_thumbnail(path: str | os.PathLike, thumbnail: Thumbnail) -> None:
    """Writes a thumbnail.

    Args:
        path: of an .npz file.
        thumbnail: to write.
    """
    with replacing(path) as temporary:
        np.savez_compressed(temporary, **dataclasses.asdict(thumbnail))


def read_thumbnail(path: str | os.PathLike) -> Thumbnail | None:
    """Returns the thumbnail of a file; None if there is none or it is damaged."""
    if not Path(path).is_file():
        return None
    try:
        with open(path, "rb") as file, np.load(file) as arrays:
            names = (field.name for field in dataclasses.fields(Thumbnail))
            *images, spacing_mm = [arrays[name] for name in names]
        return Thumbnail(*images, spacing_mm=float(spacing_mm))
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def _grid(affine, shape, ratio):
    """A grid over the same box as (affine, shape) whose voxels are 1/ratio as long."""
    change = np.diag([*(1 / ratio), 1.0])
    change[:3, 3] = (1 / ratio - 1) / 2  # edges stay, centres move
    x, y, z = (max(1, int(count)) for count in np.rint(np.asarray(shape) * ratio))
    return Grid((x, y, z), affine @ change)


def _sampled(images, determinant, mask, *, grid, spacing_mm):
    sampled = []
    for volume in images:
        hu = resample(volume, grid.affine, grid.shape, fill=AIR_HU).data
        sampled.append(_bytes((hu - _LOW_HU) * (255 / _RANGE_HU)))
    log = Volume(np.log2(np.clip(determinant.data, 0.5, 2.0)), determinant.affine)
    change = _bytes(128 + 127 * resample(log, grid.affine, grid.shape).data)
    folded = determinant.world_from_voxel(np.argwhere(~(determinant.data > 0)))
    voxels = np.rint(grid.voxel_from_world(folded)).astype(int)
    voxels = voxels[np.all((voxels >= 0) & (voxels < grid.shape), axis=1)]
    change[tuple(voxels.T)] = 0
    lungs = Volume((mask.data > 0).astype(np.uint8), mask.affine)
    lungs = resample(lungs, grid.affine, grid.shape, order=0, fill=0.0).data
    return Thumbnail(*sampled, determinant=change, lungs=lungs, spacing_mm=spacing_mm)


def _bytes(values):
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)

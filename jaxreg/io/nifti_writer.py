"""NIfTI files written slab by slab: of an image that is in memory, or made as it is written."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import nibabel
import numpy as np
from isal import igzip

from jaxreg.geometry.grid import Grid
from jaxreg.io.atomic import replacing

_LEVEL = 1  # of igzip, 0 to 3: higher ones are slower, and hardly smaller on measured values
_SLAB = 16  # voxels along the third axis, written at once, at least
_VOXELS = 1 << 22  # of a slab, about; a smaller image is one slab
_BLOCK = 16  # voxels along the second axis, copied at once


Planes = Callable[[slice], np.ndarray]  # some planes along the third axis -> their values


def write(
    path: str | os.PathLike,
    components: Sequence[Planes],
    grid: Grid,
    dtype: np.typing.DTypeLike,
    *,
    signs: Sequence[float] | None = None,
    description: str = "",
) -> bool:
    """Writes an image, or the components of a field of vectors.

    Args:
        path: ends in .nii or .nii.gz, compressed by its name.
        components: (X, Y, some) each: one of an image, three of a field. They are asked for planes
            in order, all slabs of one thickness, the last of which overlaps with the one before.
        grid: of the whole.
        dtype: of the values.
        signs: what each component of a field is multiplied by; None for an image.
        description: for the header; at most 79 characters of ASCII.

    Returns:
        Whether the grid is sheared, so that only an sform can describe it.

    Raises:
        OSError: the folder cannot be written.
        ValueError: another ending.
    """
    if not str(path).endswith((".nii", ".nii.gz")):
        raise ValueError(f"{path}: expected a name ending in .nii.gz or .nii. Rename the output.")
    header = nibabel.Nifti1Header()
    header.set_data_dtype(dtype)
    header["vox_offset"] = header.single_vox_offset
    header.set_data_shape(grid.shape if signs is None else (*grid.shape, 1, len(components)))
    header.set_zooms((*grid.spacing_mm, *[1.0] * (0 if signs is None else 2)))
    header.set_xyzt_units("mm")
    header.set_intent("none" if signs is None else "vector")
    header.set_slope_inter(1.0, 0.0)
    header["descrip"] = description.encode("ascii")
    header.set_sform(grid.affine, 1)
    sheared = grid.is_sheared()
    # a quaternion has no shear
    header.set_qform(None if sheared else grid.affine, 0 if sheared else 1)
    with replacing(path) as temporary, _opened(temporary) as file:
        file.write(header.binaryblock + bytes(4))  # no extensions
        for component, sign in zip(components, signs or [None], strict=True):
            for planes, new in _slabs(grid.shape):
                file.write(_in_file_order(component(planes)[:, :, new], sign))
    return sheared


def _slabs(shape: tuple[int, int, int]) -> Iterator[tuple[slice, slice]]:
    """Slabs along the third axis, and which of their planes are not in the slab before."""
    thickness = min(shape[2], max(_SLAB, _VOXELS // (shape[0] * shape[1])))
    for start in range(0, shape[2], thickness):
        first = min(start, shape[2] - thickness)
        yield slice(first, first + thickness), slice(start - first, None)


def _in_file_order(slab: np.ndarray, sign: float | None) -> memoryview:
    """The values of a slab, the first axis fastest; copied in blocks that fit a cache."""
    stored = np.empty(slab.shape[::-1], slab.dtype)
    for start in range(0, slab.shape[1], _BLOCK):
        stored.T[:, start : start + _BLOCK] = slab[:, start : start + _BLOCK]
    if sign is not None:
        stored *= slab.dtype.type(sign)
    return stored.data


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO | igzip.IGzipFile]:
    """A file to write to.

    Neither name nor time stand in a compressed one: the same image gives the same bytes.
    """
    with open(path, "wb") as raw:
        if path.name.endswith(".gz"):
            with igzip.IGzipFile("", "wb", _LEVEL, raw, mtime=0) as file:
                yield file
        else:
            yield raw

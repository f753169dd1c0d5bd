"""NIfTI-1 and NIfTI-2 files of any orientation, and displacement fields.

See `jaxreg.io.nifti_header` for the geometry. Files are recognised by their bytes: `.nii` may be
compressed and `.nii.gz` not, as in ITK. Compressed files are read to the end and their checksum is
verified.
"""

import contextlib
import functools
import math
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from jaxreg.geometry.grid import Box, Grid
from jaxreg.geometry.volume import DisplacementField, Volume
from jaxreg.io.nifti_header import SIZES, Header, parse
from jaxreg.io.nifti_writer import write
from jaxreg.io.notes import note
from jaxreg.io.stream import Damaged, Stream, note_surplus
from jaxreg.io.values import as_image
from jaxreg.io.vectors import DISPVECT, LPS, VECTOR, nifti_field

_PAIR = re.compile(r"\.(hdr|img)(\.gz)?$", re.IGNORECASE)


def read_volume(path: str | os.PathLike) -> Volume:
    """Returns the 3-D image in a NIfTI file, float32, with scl_slope and scl_inter applied."""
    return as_image(path, *read_values(path))


def read_values(
    path: str | os.PathLike, *, orientation: str | None = None
) -> tuple[np.ndarray, Grid]:
    """Returns the values (X, Y, Z) of a 3-D image and its grid; integers unless it has a slope.

    Args:
        path: of the file.
        orientation: of a file that does not say it, such as "LPS" (`jaxreg.io.orientation`).

    Raises:
        FileNotFoundError: no such file.
        ValueError: damaged, no 3-D image, or without an orientation; the text begins with the path.
    """
    header = _header(path, orientation)
    grid = _grid(header, path)
    return _values(header, path).reshape(grid.shape, order="F"), grid


def read_frames(path: str | os.PathLike) -> list[Volume]:
    """Returns the 3-D images, float32, of a NIfTI file with a fourth axis of at least 2.

    Raises:
        FileNotFoundError: no such file.
        ValueError: damaged, not 4-D, or without an orientation; the text begins with the path.
    """
    header = _header(path)
    shape = header.shape
    if len(shape) < 4 or shape[3] < 2 or any(n != 1 for n in shape[4:]) or min(shape[:3]) < 2:
        raise ValueError(
            f"{path}: expected a 4-D file of two or more images, got shape {shape}. Give several "
            "files, one an image."
        )
    grid = Grid((shape[0], shape[1], shape[2]), header.affine)
    values = _values(header, path).reshape((*grid.shape, shape[3]), order="F")
    return [as_image(path, values[..., index], grid) for index in range(shape[3])]


def read_grid(path: str | os.PathLike) -> Grid:
    """Returns the grid of a 3-D NIfTI file from its header alone.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the header is damaged, or not that of a 3-D image.
    """
    return _grid(_header(path), path)


def write_volume(path: str | os.PathLike, volume: Volume, *, description: str = "") -> None:
    """Writes a volume; integers in the smallest of uint8, int16 and int32 that holds them.

    A sheared grid (gantry tilt) is written with an sform alone and a FileWarning "sheared-grid".

    Args:
        path: ends in .nii.gz or .nii.
        volume: image or labels.
        description: of the values and their unit, for the header; at most 79 characters of ASCII.

    Raises:
        OSError: the folder cannot be written.
        ValueError: another ending, or integers beyond int32.
    """
    data = volume.data
    if data.dtype.kind in "bui":
        low, high = int(data.min()), int(data.max())
        types = [t for t in (np.uint8, np.int16, np.int32) if _holds(t, low, high)]
        if not types:
            raise ValueError(
                f"data: expected integers within int32, got {low} to {high}. Use fewer."
            )
        data = data.astype(types[0], copy=False)

    def planes(along: slice) -> np.ndarray:
        return data[:, :, along]

    _write_image(path, planes, volume.grid, data.dtype, description)


def write_parts(
    path: str | os.PathLike, part: Callable[[Box], Volume], grid: Grid, *, description: str = ""
) -> None:
    """Writes an image that is made part by part as it is written, float32.

    Args:
        path: as of `write_volume`.
        part: the image in a box of the grid.
        grid: of the whole image.
        description: as of `write_volume`.

    Raises:
        OSError: the folder cannot be written.
        ValueError: another ending.
    """

    def planes(along: slice) -> np.ndarray:
        return part((slice(None), slice(None), along)).data

    _write_image(path, planes, grid, np.float32, description)


def _write_image(path, planes, grid: Grid, dtype, description: str) -> None:
    if write(path, [planes], grid, dtype, description=description):
        note(
            path,
            "sheared-grid",
            "the axes of this grid are not at right angles (gantry tilt), which ITK, ANTs, elastix "
            "and Slicer cannot open. Resample the fixed image to a rectangular grid first.",
        )


def read_displacement(path: str | os.PathLike) -> DisplacementField:
    """Returns the field in a NIfTI file of ITK, NiftyReg or SPM (see `jaxreg.io.vectors`).

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, has another shape or intent, or is no field.
    """
    header = _header(path)
    shape = header.shape
    if len(shape) != 5 or shape[3:] != (1, 3) or header.intent not in (VECTOR, DISPVECT):
        raise ValueError(
            f"{path}: expected a displacement field in ITK's convention, shape (X, Y, Z, 1, 3) and "
            f"intent code 1007 or 1006, got shape {shape} and intent code {header.intent}. Write "
            "it with SimpleITK, ANTs, elastix, NiftyReg or jaxreg."
        )
    vectors = _values(header, path).reshape(shape, order="F")[:, :, :, 0, :]
    return nifti_field(path, vectors, header)


def write_displacement(path: str | os.PathLike, field: DisplacementField) -> None:
    """Writes a field as ITK reads it: (X, Y, Z, 1, 3), intent 1007, float32 mm, LPS vectors.

    SimpleITK.DisplacementFieldTransform (after a cast to sitkVectorFloat64), ANTs, elastix and
    Slicer apply the file as it is: T(x) = x + d(x) from the fixed to the moving image. They know
    no sheared grid (gantry tilt): the field of one is written on a rectangular grid that covers
    it, with a FileWarning "sheared-grid".

    Args:
        path: ends in .nii.gz or .nii.
        field: fixed to moving, RAS mm.

    Raises:
        OSError: the folder cannot be written.
        ValueError: another ending.
    """
    if field.grid.is_sheared():
        field = field.on_grid(field.grid.rectangular())
        note(
            path,
            "sheared-grid",
            "the axes of the fixed grid are not at right angles (gantry tilt), which ITK, ANTs, "
            "elastix and Slicer cannot open; the field is on a rectangular grid that covers it.",
        )
    components = [functools.partial(_component, field.data, c) for c in range(3)]
    write(path, components, field.grid, np.float32, signs=LPS.tolist())


def _component(vectors: np.ndarray, component: int, planes: slice) -> np.ndarray:
    return vectors[:, :, planes, component]


def _header(path: str | os.PathLike, orientation: str | None = None) -> Header:
    """What the header of a file says; of a pair .hdr and .img, given by either name."""
    with _open(_beside(path, "hdr")) as stream:
        block = stream.read(max(SIZES))
        return parse(block, path, orientation=orientation)


def _values(header: Header, path: str | os.PathLike) -> np.ndarray:
    """All values, (N,), in the order of the file: integers, or float32 or float64 if scaled."""
    with _open(Path(path) if header.single else _beside(path, "img")) as stream:
        stream.skip(header.offset)
        stored = stream.array(header.count, header.dtype)
        left = stream.finish()
    note_surplus(path, left, math.prod(header.shape[:2]) * header.dtype.itemsize)
    stored = stored.astype(header.dtype.newbyteorder("="), copy=False)
    if header.scaling is None:
        return stored
    small = stored.dtype.itemsize <= 2 or stored.dtype == np.float32
    values = stored.astype(np.float32 if small else np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused later
        values *= values.dtype.type(header.scaling[0])
        values += values.dtype.type(header.scaling[1])
    return values


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Stream]:
    """The bytes of a file; errors name it."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: expected a NIfTI file, got no such file. Check the name.")
    try:
        with Stream(path) as stream:
            yield stream
    except Damaged as error:
        raise ValueError(
            f"{path}: expected a complete NIfTI file, got {error}. Copy or convert the file again."
        ) from error
    except OSError as error:
        raise OSError(
            f"{path}: expected a file that can be read, got '{error.strerror or error}'. "
            "Check its permissions."
        ) from error


def _beside(path: str | os.PathLike, kind: str) -> Path:
    """The file of a pair with the header ("hdr") or the values ("img"); other files as they are."""
    path = Path(path)
    if not _PAIR.search(path.name):
        return path
    plain = path.with_name(_PAIR.sub(f".{kind}", path.name))
    packed = plain.with_name(f"{plain.name}.gz")
    return packed if packed.exists() and not plain.exists() else plain


def _grid(header: Header, path: str | os.PathLike) -> Grid:
    """The grid of an image that must be 3-D; further axes of length 1 are dropped."""
    shape = header.shape
    if len(shape) < 3 or min(shape[:3]) < 2:
        raise ValueError(
            f"{path}: expected a 3-D image, got a single slice, shape {shape}. Give the whole scan."
        )
    if any(n != 1 for n in shape[3:]):
        raise ValueError(
            f"{path}: expected one 3-D image, got shape {shape}, a series or vectors. "
            "Extract one 3-D image from it."
        )
    return Grid((shape[0], shape[1], shape[2]), header.affine)


def _holds(dtype: type, low: int, high: int) -> bool:
    limits = np.iinfo(dtype)
    return limits.min <= low and high <= limits.max

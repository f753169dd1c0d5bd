"""Images and displacement fields as MetaImage (.mha, .mhd) and NRRD (.nrrd, .nhdr).

Displacement fields in ITK's convention are images of LPS vectors in mm. Compressed values are read
to the end and their checksum is verified.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jaxreg.geometry.grid import Grid
from jaxreg.geometry.volume import DisplacementField
from jaxreg.io import metaimage, nrrd
from jaxreg.io.stream import Damaged
from jaxreg.io.text_header import Header, read_numbers
from jaxreg.io.values import located
from jaxreg.io.vectors import lps_field


def read_values(
    path: str | os.PathLike, *, orientation: str | None = None
) -> tuple[np.ndarray, Grid]:
    """Returns the values as stored, (X, Y, Z), and the grid.

    Args:
        path: of the file.
        orientation: of a NRRD file that does not say it, such as "LPS" (`jaxreg.io.orientation`).

    Raises:
        FileNotFoundError: no such file, or that with the values.
        ValueError: damaged, no 3-D image, or without a geometry; the text begins with the path.
    """
    with _readable(path):
        header = _header(path, orientation)
        _require_image(header, path)
        return read_numbers(header).reshape(header.shape, order="F"), _grid(header, path)


def read_grid(path: str | os.PathLike) -> Grid:
    """Returns the grid of an image from its header alone.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the header is damaged, or not that of a 3-D image.
    """
    with _readable(path):
        header = _header(path)
        _require_image(header, path)
        return _grid(header, path)


def read_displacement(path: str | os.PathLike) -> DisplacementField:
    """Returns the field in a file of LPS vectors in mm, as SimpleITK, ANTs and elastix write it.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, or has no vectors of three numbers, or positions.
    """
    with _readable(path):
        header = _header(path)
        if header.components != 3:
            raise ValueError(
                f"{path}: expected a displacement field, three numbers per voxel in 3-D, got "
                f"{header.shape} with {header.components}. Write it with SimpleITK, ANTs, elastix "
                "or jaxreg."
            )
        numbers = read_numbers(header)
        if header.interleaved:
            vectors = np.moveaxis(numbers.reshape((3, *header.shape), order="F"), 0, -1)
        else:
            vectors = numbers.reshape((*header.shape, 3), order="F")
        return lps_field(path, vectors, header.affine)


def _header(path: str | os.PathLike, orientation: str | None = None) -> Header:
    if str(path).lower().endswith((".nrrd", ".nhdr")):
        return nrrd.parse(path, orientation=orientation)
    return metaimage.parse(path)


@contextlib.contextmanager
def _readable(path: str | os.PathLike) -> Iterator[None]:
    """Errors name the file."""
    if not Path(path).exists():
        raise FileNotFoundError(f"{path}: expected an image, got no such file. Check the name.")
    try:
        yield
    except Damaged as error:
        raise ValueError(
            f"{path}: expected a complete image file, got {error}. Copy or convert it again."
        ) from error


def _require_image(header: Header, path: str | os.PathLike) -> None:
    """Raises ValueError unless there is one number per voxel."""
    if header.components != 1:
        raise ValueError(
            f"{path}: expected a 3-D image with one number per voxel, got shape {header.shape} "
            f"with {header.components}. Give one whole scan: no single slice, series or colour "
            "image."
        )


def _grid(header: Header, path: str | os.PathLike) -> Grid:
    with located(path):
        return Grid(header.shape, header.affine)

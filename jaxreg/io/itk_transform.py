"""Fields as transform files of ITK: an affine map and a displacement field, .tfm (text) or .h5.

`SimpleITK.ReadTransform`, ANTs and Slicer load them. The file holds a CompositeTransform of an
affine map A and a field r with T(x) = A(x + r(x)): ITK applies the last one first. Outside of the
grid, where ITK takes no displacement, the map is A and not the identity. Points are LPS mm.
"""

import os
import platform
from pathlib import Path
from typing import Any

import numpy as np

from jaxreg.geometry.grid import transform
from jaxreg.geometry.inversion import affine_part
from jaxreg.geometry.volume import DisplacementField
from jaxreg.io.atomic import replacing

ENDINGS = (".tfm", ".h5")
_LPS = np.array([-1.0, -1.0, 1.0])
_ROW = 50_000  # numbers that are written as text at a time
_PLANES = 16


def write_transform(path: str | os.PathLike, field: DisplacementField) -> None:
    """Writes a field as a transform file, by the ending of the name.

    A sheared grid, which ITK does not know, is replaced by the grid with right angles that covers
    it.

    Args:
        path: file to write, .tfm or .h5 (a tenth of the size; needs the package h5py).
        field: T(x) = x + d(x), world mm, RAS.

    Raises:
        ImportError: .h5 without h5py.
        OSError: the folder cannot be written, or the disk is full.
        ValueError: another ending.
    """
    name = Path(path).name.lower()
    if not name.endswith(ENDINGS):
        raise ValueError(
            f"{path}: expected a name ending in {' or '.join(ENDINGS)}, got "
            f"'{Path(path).suffix or name}'. Rename it."
        )
    if name.endswith(".h5"):
        _h5py(Path(path))  # before the work, and named as the caller named it
    if field.grid.is_sheared():
        field = field.on_grid(field.grid.rectangular())
    matrix = affine_part(field)
    parts = [
        ("AffineTransform_double_3_3", _affine_parameters(matrix), np.zeros(3)),
        ("DisplacementFieldTransform_double_3_3", _residual(field, matrix), _geometry(field)),
    ]
    with replacing(path) as temporary:
        (_write_hdf5 if name.endswith(".h5") else _write_text)(temporary, parts)


def _affine_parameters(matrix: np.ndarray) -> np.ndarray:
    """Nine numbers of the matrix by rows, and the translation, LPS; (12,)."""
    signs = np.diag([*_LPS, 1.0])
    lps = signs @ matrix @ signs
    return np.concatenate([lps[:3, :3].ravel(), lps[:3, 3]])


def _geometry(field: DisplacementField) -> np.ndarray:
    """Size, origin, spacing and directions (by rows) of the grid, LPS; (18,)."""
    affine = np.diag([*_LPS, 1.0]) @ field.affine
    spacing = np.array(field.spacing_mm)
    directions = affine[:3, :3] / spacing
    return np.concatenate([field.shape, affine[:3, 3], spacing, directions.ravel()])


def _residual(field: DisplacementField, matrix: np.ndarray) -> np.ndarray:
    """r(x) = A^-1 T(x) - x in LPS, vector after vector, x fastest; (3 X Y Z,) float64."""
    x, y, z = field.shape
    values = np.empty((z, y, x, 3))
    inverse = np.linalg.inv(matrix)
    for first in range(0, z, _PLANES):
        d = field.data[:, :, first : first + _PLANES].astype(np.float64)
        voxels = np.moveaxis(np.indices(d.shape[:3]), 0, -1) + (0, 0, first)
        world = field.grid.world_from_voxel(voxels)
        r = (transform(inverse, world + d) - world) * _LPS
        values[first : first + _PLANES] = r.transpose(2, 1, 0, 3)
    return values.ravel()


def _write_text(path: Path, parts: list[tuple[str, np.ndarray, np.ndarray]]) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write("#Insight Transform File V1.0\n#Transform 0\n")
        file.write("Transform: CompositeTransform_double_3_3\n")
        for number, (kind, parameters, fixed) in enumerate(parts, start=1):
            file.write(f"#Transform {number}\nTransform: {kind}\nParameters:")
            for first in range(0, len(parameters), _ROW):
                row = parameters[first : first + _ROW].tolist()
                file.write("".join(f" {value:.9g}" for value in row))
            file.write("\nFixedParameters:" + "".join(f" {value:.17g}" for value in fixed) + "\n")


def _write_hdf5(path: Path, parts: list[tuple[str, np.ndarray, np.ndarray]]) -> None:
    h5py = _h5py(path)
    words = h5py.string_dtype("ascii")
    with h5py.File(path, "w", locking=False) as file:  # `replacing` holds a lock on it
        about = {
            "HDFVersion": h5py.version.hdf5_version,
            "ITKVersion": "5.4",
            "OSName": platform.uname().system,
            "OSVersion": platform.release(),
        }
        for name, text in about.items():
            file.create_dataset(name, data=[text], dtype=words)
        group = file.create_group("TransformGroup")
        first = group.create_group("0")
        first.create_dataset("TransformType", data=["CompositeTransform_double_3_3"], dtype=words)
        for number, (kind, parameters, fixed) in enumerate(parts, start=1):
            part = group.create_group(str(number))
            part.create_dataset("TransformType", data=[kind], dtype=words)
            part.create_dataset("TransformFixedParameters", data=fixed)
            part.create_dataset(
                "TransformParameters",
                data=np.round(parameters, 6),  # of a millimetre: zeros compress
                compression="gzip" if len(parameters) > _ROW else None,
                shuffle=len(parameters) > _ROW,
            )


def _h5py(path: Path) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise ImportError(
            f"{path}: expected the package h5py, which writes .h5, got none. Install it with: "
            "pip install h5py, or write .tfm."
        ) from error
    return h5py

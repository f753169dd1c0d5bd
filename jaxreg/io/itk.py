"""MetaImage (.mha, .mhd), NRRD and DICOM folders, through the optional package SimpleITK.

Displacement fields in ITK's convention are images of LPS vectors in mm.

SimpleITK's arrays are (z, y, x) and its world is LPS; both are turned here, once.
"""

import os
from pathlib import Path

import numpy as np

from jaxreg.geometry.volume import DisplacementField, Grid, Volume

_RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_POSITION, _ORIENTATION = "0020|0032", "0020|0037"  # DICOM tags of a slice


def read_volume(path: str | os.PathLike) -> Volume:
    """Returns the image in a file that SimpleITK reads, or the one series in a DICOM folder.

    DICOM values are Hounsfield units (rescale slope and intercept are applied).
    """
    sitk = _simpleitk(path)
    try:
        image = _read_series(sitk, path) if Path(path).is_dir() else _header(sitk, path).Execute()
    except RuntimeError as error:
        raise ValueError(_broken(path, error)) from error
    _require_image(image, image.GetNumberOfComponentsPerPixel(), path)
    grid = _grid(image)
    data = sitk.GetArrayFromImage(image).T
    try:
        return Volume(np.ascontiguousarray(data, dtype=np.float32), grid.affine)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_grid(path: str | os.PathLike) -> Grid:
    """Returns the grid of an image; of a file from its header alone."""
    if Path(path).is_dir():
        return read_volume(path).grid
    header = _header(_simpleitk(path), path)
    _require_image(header, header.GetNumberOfComponents(), path)
    return _grid(header)


def read_displacement(path: str | os.PathLike) -> DisplacementField:
    """Returns the field in a file of LPS vectors in mm, as SimpleITK, ANTs and elastix write it."""
    sitk = _simpleitk(path)
    try:
        image = _header(sitk, path).Execute()
    except RuntimeError as error:
        raise ValueError(_broken(path, error)) from error
    size, components = image.GetSize(), image.GetNumberOfComponentsPerPixel()
    if len(size) != 3 or components != 3:
        raise ValueError(
            f"{path}: expected a displacement field, three numbers per voxel in 3-D, got shape "
            f"{size} with {components}. Write it with SimpleITK, ANTs, elastix or jaxreg."
        )
    vectors = sitk.GetArrayFromImage(image).transpose(2, 1, 0, 3)  # from (z, y, x, c)
    signs = np.diag(_RAS_FROM_LPS)[:3].astype(np.float32)
    try:
        return DisplacementField(vectors.astype(np.float32) * signs, _grid(image).affine)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _header(sitk, path: str | os.PathLike):
    """A SimpleITK reader that has read the header of a file."""
    if not Path(path).exists():
        raise FileNotFoundError(f"{path}: expected an image, got no such file. Check the name.")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise ValueError(_broken(path, error)) from error
    return reader


def _simpleitk(path: str | os.PathLike):
    """The module SimpleITK, or an error that names the extra."""
    try:
        import SimpleITK
    except ImportError as error:
        raise ImportError(
            f"{path}: expected the package SimpleITK, which reads .mha, .mhd, .nrrd and DICOM, got "
            "none. Install it with: pip install 'jaxreg[itk]'"
        ) from error
    return SimpleITK


def _read_series(sitk, folder: str | os.PathLike):
    """The one DICOM series in a folder, with slices evenly spaced along their normal."""
    reader = sitk.ImageSeriesReader()
    files = {
        series: reader.GetGDCMSeriesFileNames(str(folder), series)
        for series in reader.GetGDCMSeriesIDs(str(folder))
    }
    if len(files) != 1:
        found = ", ".join(f"{series} ({len(names)} files)" for series, names in files.items())
        raise ValueError(
            f"{folder}: expected one DICOM series, got {found or 'none'}. "
            "Give a folder with the files of one scan."
        )
    reader.SetFileNames(next(iter(files.values())))
    reader.MetaDataDictionaryArrayUpdateOn()
    image = reader.Execute()
    slices = range(len(reader.GetFileNames()))
    if len(slices) > 1:
        positions = [_numbers(reader.GetMetaData(k, _POSITION)) for k in slices]
        _require_even_slices(
            np.array(positions), _numbers(reader.GetMetaData(0, _ORIENTATION)), folder
        )
    return image


def _require_even_slices(
    positions: np.ndarray, orientation: np.ndarray, folder: str | os.PathLike
) -> None:
    """Raises ValueError for missing slices and for a tilted gantry.

    Args:
        positions: first voxel of each slice, in order, (N, 3), mm.
        orientation: directions of a slice's rows and columns, (6,).
        folder: for the message.
    """
    steps = np.diff(positions, axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    if lengths.max() > 1.1 * lengths.min():
        raise ValueError(
            f"{folder}: expected evenly spaced slices, got distances from {lengths.min():.3g} to "
            f"{lengths.max():.3g} mm. Slices are missing, or two scans are mixed."
        )
    normal = np.cross(orientation[:3], orientation[3:])
    tilt = np.degrees(np.arccos(np.clip(abs(steps.mean(axis=0) @ normal) / lengths.mean(), 0, 1)))
    if tilt > 0.5:
        raise ValueError(
            f"{folder}: expected slices stacked along their normal, got a tilt of {tilt:.1f} "
            "degrees (gantry). Resample the scan to a rectangular grid first (dcm2niix does)."
        )


def _require_image(header, components: int, path: str | os.PathLike) -> None:
    """Raises ValueError unless the header is that of a whole 3-D image of numbers."""
    size = tuple(header.GetSize())
    if len(size) != 3 or min(size) < 2 or components != 1:
        raise ValueError(
            f"{path}: expected a 3-D image with one number per voxel, got shape {size} with "
            f"{components}. Give one whole scan: no single slice, series or colour image."
        )


def _grid(header) -> Grid:
    """The grid of a SimpleITK image, or of a reader that knows the header."""
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(header.GetDirection(), (3, 3)) * header.GetSpacing()
    affine[:3, 3] = header.GetOrigin()
    return Grid(tuple(header.GetSize()), _RAS_FROM_LPS @ affine)


def _numbers(text: str) -> np.ndarray:
    return np.array([float(part) for part in text.split("\\")])


def _broken(path: str | os.PathLike, error: Exception) -> str:
    reason = " ".join(str(error).split("ERROR: ")[-1].split()).rstrip(".")
    return f"{path}: expected a complete image file, got '{reason}'. Copy or convert it again."

"""Images of any format: NIfTI, MetaImage and NRRD by the ending of their name, and DICOM."""

import datetime
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from jaxreg.geometry.grid import Grid
from jaxreg.geometry.labels import OTHER_GRID, labels_on_image
from jaxreg.geometry.volume import DisplacementField, Volume
from jaxreg.io import dicom, dicom_series, itk, nifti
from jaxreg.io.neighbours import missing
from jaxreg.io.notes import note
from jaxreg.io.orientation import axes_of
from jaxreg.io.source import Source, name_of
from jaxreg.io.values import as_image, as_labels

_NIFTI = (".nii", ".nii.gz", ".hdr", ".hdr.gz", ".img", ".img.gz")
_TRANSFORMS = (".mat", ".txt", ".tfm", ".h5", ".xfm", ".hdf5")
_ITK = (".mha", ".mhd", ".nrrd", ".nhdr")


def read_image(
    path: str | os.PathLike, *, series: str | None = None, orientation: str | None = None
) -> Volume:
    """Returns the 3-D image in a file or in a DICOM folder, float32.

    Args:
        path: a file, a folder of DICOM files, or one file of a DICOM series.
        series: end or whole of the SeriesInstanceUID, or the SeriesNumber, where a folder has more
            than one that is a volume.
        orientation: of NIfTI and NRRD files that do not say it: three letters for where the indices
            grow to, such as "LPS" (left, posterior, superior). A FileWarning says where it is used.

    Raises:
        FileNotFoundError: no such file or folder.
        ImportError: pydicom is not installed, or no decoder for compressed pixels.
        ValueError: the file is damaged, in no known format, or no 3-D image.
    """
    return as_image(path, *_read_values(path, series, orientation))


def read_image_of(
    path: str | os.PathLike, *, series: str | None = None, orientation: str | None = None
) -> tuple[Volume, Source]:
    """The image in a file or in a DICOM folder, and which scan it is.

    Args:
        path: as in `read_image`.
        series: as in `read_image`.
        orientation: as in `read_image`.

    Returns:
        The image, and what its name and its headers say.

    Raises:
        FileNotFoundError: as `read_image`.
        ImportError: as `read_image`.
        ValueError: as `read_image`.
    """
    name = name_of(path)
    if _reader(path) is not dicom:
        return read_image(path, series=series, orientation=orientation), Source(name)
    _check_orientation(orientation)
    stack = dicom.slices_of_series(path, series)
    image = as_image(path, *dicom.values_of(stack, path))
    return image, dicom_series.source_of(stack[0].path, name)


def read_labels(
    path: str | os.PathLike,
    *,
    grid: Grid | None = None,
    others: Mapping[str, Grid] = MappingProxyType({}),
    series: str | None = None,
    orientation: str | None = None,
) -> Volume:
    """Returns the label map or mask in a file, int32; values that are not whole are refused.

    Args:
        path: as in `read_image`.
        grid: where the labels are wanted, the image's own. Another order of axes and a part of the
            lattice are brought there; labels on another lattice too, by the nearest neighbour and
            with a FileWarning "other-grid". None means as they are in the file.
        others: grids of images that the labels do not belong to, by the images' names.
        series: as in `read_image`.
        orientation: as in `read_image`.

    Raises:
        ValueError: values that are not whole; or the file does not overlap with `grid`, or is on
            one of `others`.
    """
    labels = as_labels(path, *_read_values(path, series, orientation))
    if grid is None:
        return labels
    labels, doubt = labels_on_image(labels, grid, str(path), others=others)
    if doubt is not None:
        note(path, OTHER_GRID, doubt)
    return labels


def read_grid(path: str | os.PathLike) -> Grid:
    """Returns the grid of an image, of a file from its header alone.

    Raises:
        FileNotFoundError: no such file or folder.
        ValueError: the header is damaged, in no known format, or not that of a 3-D image.
    """
    return _reader(path).read_grid(path)


def read_date(path: str | os.PathLike, *, series: str | None = None) -> datetime.date | None:
    """The date of the study of a DICOM series.

    Args:
        path: as in `read_image`.
        series: as in `read_image`.

    Returns:
        The date; None where the series has none, and for other formats.

    Raises:
        FileNotFoundError: no such file or folder.
        ValueError: as `read_image`.
    """
    return dicom_series.read_date(path, series=series) if _reader(path) is dicom else None


def read_displacement(path: str | os.PathLike) -> DisplacementField:
    """Returns the displacement field in a file of ITK, NiftyReg or SPM (`jaxreg.io.vectors`).

    Raises:
        ValueError: an affine transform, an image, positions that are not stated as such, or another
            format; the text begins with the path.
    """
    if str(path).lower().endswith(_TRANSFORMS):
        raise ValueError(
            f"{path}: expected a displacement field as an image of vectors, got a transform file. "
            "Convert it with SimpleITK.TransformToDisplacementField on the fixed image's grid."
        )
    reader = _reader(path)
    if reader not in (nifti, itk):
        raise ValueError(
            f"{path}: expected a displacement field, got DICOM. Write it with SimpleITK, ANTs, "
            "elastix or jaxreg as .nii.gz, .mha or .nrrd."
        )
    return reader.read_displacement(path)


def find_displacement(folder: str | os.PathLike, name: str) -> Path:
    """Returns the path of the displacement field of a case.

    Args:
        folder: where fields of an outside tool are.
        name: of the case; the file has this name and an ending that can be read.

    Returns:
        The path.

    Raises:
        FileNotFoundError: there is no such file, or more than one.
    """
    endings = (".nii.gz", ".nii", *_ITK)
    paths = [Path(folder) / f"{name}{ending}" for ending in endings]
    found = [path for path in paths if path.is_file()]
    if len(found) != 1:
        raise FileNotFoundError(
            f"{folder}: expected one displacement field {name} ending in {', '.join(endings)}, got "
            f"{', '.join(path.name for path in found) or 'none'}. Write it on the fixed image's "
            "grid, LPS mm, as ITK, ANTs and elastix do."
        )
    return found[0]


def _read_values(
    path: str | os.PathLike, series: str | None, orientation: str | None
) -> tuple[np.ndarray, Grid]:
    """Values as stored, or scaled, and their grid."""
    _check_orientation(orientation)
    reader = _reader(path)
    if reader is dicom:
        return dicom.read_values(path, series=series)
    return (itk if reader is itk else nifti).read_values(path, orientation=orientation)


def _check_orientation(orientation: str | None) -> None:
    """Refuses a wrong one where it is not needed too."""
    if orientation is not None:
        axes_of(orientation)


def _reader(path: str | os.PathLike):
    """The module that reads `path`."""
    path = Path(path)
    name = path.name.lower()
    if not path.exists():
        raise FileNotFoundError(missing(path))
    if path.is_dir():
        return dicom
    if name.endswith(_NIFTI):
        return nifti
    if name.endswith(_ITK):
        return itk
    if dicom.is_dicom(path):
        return dicom
    raise ValueError(
        f"{path}: expected a file ending in {', '.join((*_NIFTI, *_ITK))}, a DICOM file or folder, "
        f"got '{path.suffix or name}'. Convert it to .nii.gz, or check the name."
    )

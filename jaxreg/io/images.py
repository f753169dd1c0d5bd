"""Images by the ending of their name: NIfTI here, MetaImage, NRRD and DICOM through SimpleITK."""

import os
from pathlib import Path

import numpy as np

from jaxreg.geometry.volume import DisplacementField, Grid, Volume
from jaxreg.io import itk, nifti

_NIFTI = (".nii", ".nii.gz", ".hdr")
_ITK = (".mha", ".mhd", ".nrrd", ".nhdr")


def read_image(path: str | os.PathLike) -> Volume:
    """Returns the 3-D image in a file or in a DICOM folder, float32."""
    return _reader(path).read_volume(path)


def read_labels(path: str | os.PathLike) -> Volume:
    """Returns the label map or mask in a file, int32; values that are not whole are refused."""
    image = read_image(path)
    labels = image.data.astype(np.int32)
    if not np.array_equal(labels, image.data):
        odd = float(image.data[labels != image.data].flat[0])
        raise ValueError(
            f"{path}: expected whole numbers (labels or a mask), got {odd:g}. "
            "Resample labels with nearest neighbours, or threshold the mask."
        )
    return Volume(labels, image.affine)


def read_grid(path: str | os.PathLike) -> Grid:
    """Returns the grid of an image, of a file from its header alone."""
    return _reader(path).read_grid(path)


def read_displacement(path: str | os.PathLike) -> DisplacementField:
    """Returns the displacement field in a file in ITK's convention: LPS vectors in mm."""
    return _reader(path).read_displacement(path)


def find_displacement(folder: str | os.PathLike, name: str) -> Path:
    """Returns the field of a case in a folder: NAME with an ending that can be read."""
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


def _reader(path: str | os.PathLike):
    """The module that reads `path`."""
    name = Path(path).name.lower()
    if Path(path).is_dir() or name.endswith(_ITK):
        return itk
    if name.endswith(_NIFTI):
        return nifti
    raise ValueError(
        f"{path}: expected a file ending in {', '.join((*_NIFTI, *_ITK))} or a DICOM folder, got "
        f"'{Path(path).suffix or name}'. Convert it to .nii.gz, or check the name."
    )

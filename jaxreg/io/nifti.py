"""NIfTI-1 and NIfTI-2 files of any orientation, and displacement fields in ITK's convention.

Geometry: the sform where its code is set, else the qform; a file with neither is refused, because
left and right cannot be told. Where both are set and differ, the sform is used and a warning is
logged. Lengths in metres or micrometres (xyzt_units) become millimetres.
"""

import gzip
import logging
import os
import zlib
from pathlib import Path

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.loadsave import load, save
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from jaxreg.geometry.volume import DisplacementField, Grid, Volume
from jaxreg.io.atomic import replacing

_MM = {"mm": 1.0, "meter": 1e3, "micron": 1e-3, "unknown": 1.0}
_LPS = np.array([-1.0, -1.0, 1.0], np.float32)  # RAS to LPS and back
_VECTOR_INTENT = 1007
_BROKEN = (
    ImageFileError,
    HeaderDataError,
    WrapStructError,
    EOFError,
    OSError,
    ValueError,
    zlib.error,
)
_logger = logging.getLogger(__name__)


def read_volume(path: str | os.PathLike) -> Volume:
    """Returns the 3-D image in a NIfTI file, float32, with scl_slope and scl_inter applied."""
    image = _open(path)
    grid = _grid(image, path)
    try:
        return Volume(_values(image, path).reshape(grid.shape), grid.affine)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_grid(path: str | os.PathLike) -> Grid:
    """Returns the grid of a 3-D NIfTI file from its header alone."""
    return _grid(_open(path), path)


def write_volume(path: str | os.PathLike, volume: Volume) -> None:
    """Writes a volume; integers in the smallest of uint8, int16 and int32 that holds them."""
    data = volume.data
    if data.dtype.kind in "bui":
        low, high = int(data.min()), int(data.max())
        types = [t for t in (np.uint8, np.int16, np.int32) if _holds(t, low, high)]
        if not types:
            raise ValueError(
                f"data: expected integers within int32, got {low} to {high}. Use fewer."
            )
        data = data.astype(types[0])
    _write(path, data, volume.affine, intent="none")


def read_displacement(path: str | os.PathLike) -> DisplacementField:
    """Returns the field in a NIfTI file written in ITK's convention (see write_displacement)."""
    image = _open(path)
    intent = int(image.header["intent_code"])
    if len(image.shape) != 5 or image.shape[3:] != (1, 3) or intent != _VECTOR_INTENT:
        raise ValueError(
            f"{path}: expected a displacement field in ITK's convention, shape (X, Y, Z, 1, 3) and "
            f"intent code 1007, got shape {image.shape} and intent code {intent}. Write it with "
            "SimpleITK, ANTs, elastix or jaxreg."
        )
    data = _values(image, path)[:, :, :, 0, :] * _LPS
    affine = _affine_mm(image, path)
    try:
        return DisplacementField(data, affine)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def write_displacement(path: str | os.PathLike, field: DisplacementField) -> None:
    """Writes a field as ITK reads it: (X, Y, Z, 1, 3), intent 1007, float32 mm, LPS vectors.

    SimpleITK.DisplacementFieldTransform (after a cast to sitkVectorFloat64), ANTs, elastix and
    Slicer apply the file as it is: T(x) = x + d(x) from the fixed to the moving image.
    """
    _write(path, (field.data * _LPS)[:, :, :, None, :], field.affine, intent="vector")


def _open(path: str | os.PathLike) -> nibabel.Nifti1Image:
    """The file with its header read and checked, its values not yet read."""
    if not Path(path).exists():
        raise FileNotFoundError(f"{path}: expected a NIfTI file, got no such file. Check the name.")
    try:
        image = load(path)
    except _BROKEN as error:
        raise ValueError(_broken(path, error)) from error
    if not isinstance(image, nibabel.Nifti1Pair):
        raise ValueError(
            f"{path}: expected a NIfTI file, got {type(image).__name__}. Convert it to .nii.gz."
        )
    return image  # pyright: ignore[reportReturnType] (a pair .hdr/.img has the same interface)


def _grid(image: nibabel.Nifti1Image, path: str | os.PathLike) -> Grid:
    """The grid of an image that must be 3-D; further axes of length 1 are dropped."""
    shape = image.shape
    if len(shape) < 3 or min(shape[:3]) < 2:
        raise ValueError(
            f"{path}: expected a 3-D image, got a single slice, shape {shape}. Give the whole scan."
        )
    if any(n != 1 for n in shape[3:]):
        raise ValueError(
            f"{path}: expected one 3-D image, got shape {shape}, a series or vectors. "
            "Extract one 3-D image from it."
        )
    affine = _affine_mm(image, path)
    try:
        return Grid((shape[0], shape[1], shape[2]), affine)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _affine_mm(image: nibabel.Nifti1Image, path: str | os.PathLike) -> np.ndarray:
    """Voxel to world RAS in millimetres, by the rule in the module docstring."""
    header = image.header
    try:
        unit_name = str(header.get_xyzt_units()[0])
        sform, sform_code = header.get_sform(coded=True)
        qform, qform_code = header.get_qform(coded=True)
    except _BROKEN as error:
        raise ValueError(_broken(path, error)) from error
    except KeyError as error:
        raise ValueError(
            f"{path}: expected a known xyzt_units code, got {int(header['xyzt_units'])}. "
            "Set it to 2 (millimetres)."
        ) from error
    if sform is None and qform is None:
        raise ValueError(
            f"{path}: expected an orientation, got sform_code and qform_code 0, so that left and "
            "right are unknown. Convert the scan again, or set one (nibabel: set_sform(affine, 1))."
        )
    affine = qform if sform is None else sform
    if sform is not None and qform is not None:
        corners = np.array([[0, 0, 0, 1], [*(n - 1 for n in image.shape[:3]), 1]])
        apart = float(np.linalg.norm((corners @ (sform - qform).T)[:, :3], axis=1).max())
        if apart > 0.5 * float(np.linalg.norm(sform[:3, :3], axis=0).min()):
            _logger.warning(
                "%s: sform (code %d) and qform (code %d) are %.1f apart at a corner; sform is used",
                path,
                sform_code,
                qform_code,
                apart,
            )
    return np.diag([*[_MM[unit_name]] * 3, 1.0]) @ affine


def _values(image: nibabel.Nifti1Image, path: str | os.PathLike) -> np.ndarray:
    """All values, scaled, float32."""
    stored = np.dtype(image.get_data_dtype())
    if stored.kind not in "iuf":
        raise ValueError(
            f"{path}: expected one number per voxel, got type {stored}. "
            "Convert RGB or complex data first."
        )
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused later
            return image.get_fdata(dtype=np.float32, caching="unchanged")
    except _BROKEN as error:
        raise ValueError(_broken(path, error)) from error


def _write(path: str | os.PathLike, data: np.ndarray, affine: np.ndarray, *, intent: str) -> None:
    if not str(path).endswith((".nii", ".nii.gz")):
        raise ValueError(f"{path}: expected a name ending in .nii.gz or .nii. Rename the output.")
    image = nibabel.Nifti1Image(data, affine)
    image.header.set_xyzt_units("mm")
    image.header.set_intent(intent)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    if not np.allclose(image.get_qform(), affine, atol=1e-2):
        image.set_qform(None, 0)  # a quaternion has no shear (gantry tilt); the sform has
    with replacing(path) as temporary:
        if data.dtype.kind == "f" and str(path).endswith(".gz"):
            _save_numbers(image, temporary)
        else:
            save(image, temporary)


def _save_numbers(image: nibabel.Nifti1Image, path: Path) -> None:
    """As `save`, without a search for repeats, of which measured values have none.

    Files are as small (float32 fields and images to 7 %) and written in half of the time.
    """
    # Neither name nor time in the file: the same image gives the same bytes.
    with open(path, "wb") as raw, gzip.GzipFile("", "wb", 1, raw, mtime=0) as file:
        file.compress = zlib.compressobj(
            1, zlib.DEFLATED, -zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_HUFFMAN_ONLY
        )
        image.to_stream(file)


def _holds(dtype: type, low: int, high: int) -> bool:
    limits = np.iinfo(dtype)
    return limits.min <= low and high <= limits.max


def _broken(path: str | os.PathLike, error: Exception) -> str:
    reason = " ".join(str(error).split()).rstrip(".")
    return (
        f"{path}: expected a complete NIfTI file, got '{reason}'. Copy or convert the file again."
    )

"""Headers of NIfTI-1 and NIfTI-2: what the values are, and where they lie.

Geometry: the sform where its code is set, else the qform. Of two that are both set the sform is
used, with a warning where they differ; where one of both is no matrix at all, the other one, with
a warning. A file with neither is refused, because left and right cannot be distinguished. Lengths
in metres or micrometres (xyzt_units) become millimetres.

nibabel knows where each number stands in the header; its own checks are left out, as they refuse
files that can be read and pass some that cannot.
"""

import dataclasses
import math
import os
from typing import Literal

import nibabel
import numpy as np
from nibabel.nifti1 import data_type_codes
from nibabel.quaternions import quat2mat

from jaxreg.geometry.grid import Grid, checked_affine
from jaxreg.io.notes import note
from jaxreg.io.orientation import stated_affine
from jaxreg.io.stream import Damaged
from jaxreg.io.values import located

SIZES = (348, 540)  # bytes of NIfTI-1 and NIfTI-2, also the first number in the file
_CLASSES = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}
_MAGIC = {348: (b"n+1", b"ni1"), 540: (b"n+2", b"ni2")}  # values in the same file, in another one
_MM = {0: 1.0, 1: 1e3, 2: 1.0, 3: 1e-3}  # unknown (taken as mm), metre, mm, micrometre
_QUATERNION_EXCESS = 1e-3  # squared length above 1 that is rounding
_APART = 0.5  # voxels by which sform and qform may differ without a warning


@dataclasses.dataclass(frozen=True)
class Header:
    """What a header says.

    Attributes:
        shape: as stored, three to seven axes.
        dtype: of the stored numbers, with their byte order.
        offset: of the first number, bytes.
        scaling: slope and intercept, or None where stored numbers are the values.
        affine: (4, 4), voxel to world RAS mm.
        intent: code.
        intent_name: what the writer calls the values, often "".
        intent_p1: first parameter of the intent.
        single: whether the values are in the same file.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int
    scaling: tuple[float, float] | None
    affine: np.ndarray
    intent: int
    intent_name: str
    intent_p1: float
    single: bool

    @property
    def count(self) -> int:
        """Number of stored numbers."""
        return math.prod(self.shape)


def parse(block: bytes, path: str | os.PathLike, *, orientation: str | None = None) -> Header:
    """Returns what the first bytes of a file say.

    Args:
        block: at least 348 bytes, or 540 of a NIfTI-2 file.
        path: for messages.
        orientation: of a file that does not say it, such as "LPS" (`jaxreg.io.orientation`).

    Raises:
        Damaged: no NIfTI header, or numbers in it that no image has.
        ValueError: a whole header, but without an orientation, or of another kind of data.
    """
    size, order = _kind(block)
    header = _CLASSES[size](block[:size], endianness=order, check=False)
    magic = bytes(header["magic"])[:3]
    if magic not in _MAGIC[size]:
        raise Damaged(f"no NIfTI mark in the header ({magic!r}; an Analyze file?)")
    shape = _shape(header["dim"])
    dtype = _dtype(int(header["datatype"]), order, path)
    affine = _affine_mm(header, shape, path, orientation)
    single = magic == _MAGIC[size][0]
    offset = _offset(float(header["vox_offset"]), size, single)
    name = bytes(header["intent_name"]).partition(b"\0")[0].decode("ascii", "replace").strip()
    intent = int(header["intent_code"]), name, float(header["intent_p1"])
    return Header(shape, dtype, offset, _scaling(header), affine, *intent, single)


def _kind(block: bytes) -> tuple[int, Literal["<", ">"]]:
    """Size of the header and byte order, by the first number."""
    for order in ("<", ">"):
        first = int(np.frombuffer(block[:4].ljust(4, b"\0"), f"{order}i4")[0])
        if first in SIZES and len(block) >= first:
            return first, order
    raise Damaged("no NIfTI header at the beginning")


def _shape(dim: np.ndarray) -> tuple[int, ...]:
    """Lengths of the axes; those after the third may be absent or 0, which is 1."""
    axes = int(dim[0])
    if not 1 <= axes <= 7:
        raise Damaged(f"{axes} axes")
    sizes = [int(n) for n in dim[1 : axes + 1]]
    sizes[3:] = [max(n, 1) if n == 0 else n for n in sizes[3:]]
    if min(sizes) < 1:
        raise Damaged(f"the shape {tuple(sizes)}")
    return tuple(sizes)


def _dtype(code: int, order: Literal["<", ">"], path: str | os.PathLike) -> np.dtype:
    if code not in data_type_codes.code:
        raise Damaged(f"an unknown data type, code {code}")
    dtype = np.dtype(data_type_codes.dtype[code])  # pyright: ignore
    if dtype.kind not in "iuf" or dtype.itemsize == 0:
        raise ValueError(
            f"{path}: expected one number per voxel, got type {data_type_codes.label[code]}. "
            "Convert RGB or complex data first."
        )
    return dtype.newbyteorder(order)


def _offset(offset: float, size: int, single: bool) -> int:
    least = size + 4 if single else 0
    if offset == 0 and single:
        return least
    if not (math.isfinite(offset) and least <= offset and offset == int(offset)):
        raise Damaged(f"values that begin at byte {offset:g}")
    return int(offset)


def _scaling(header) -> tuple[float, float] | None:
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or not math.isfinite(slope):
        return None
    if not math.isfinite(intercept):
        raise Damaged(f"the intercept {intercept:g}")
    return None if (slope, intercept) == (1, 0) else (slope, intercept)


def _affine_mm(
    header, shape: tuple[int, ...], path: str | os.PathLike, orientation: str | None
) -> np.ndarray:
    """Voxel to world RAS in millimetres, by the rule in the module docstring."""
    units = int(header["xyzt_units"]) & 7  # the other bits are units of time
    if units not in _MM:
        raise ValueError(
            f"{path}: expected a known xyzt_units code, got {int(header['xyzt_units'])}. "
            "Set it to 2 (millimetres)."
        )
    codes = {"sform": int(header["sform_code"]), "qform": int(header["qform_code"])}
    forms = {"sform": _sform(header), "qform": _qform(header)}
    given = [name for name, code in codes.items() if code != 0]
    usable = [name for name in given if forms[name] is not None]
    if not given:
        return _stated(header, path, orientation, _MM[units])
    if not usable:
        raise ValueError(
            f"{path}: affine: expected a finite invertible matrix, got {' and '.join(given)} that "
            "are none. Convert the scan again, or set one (nibabel: set_sform(affine, 1))."
        )
    if len(usable) < len(given):
        (lost,) = set(given) - set(usable)
        note(path, f"{lost}-unusable", f"the {lost} is no matrix of a grid; {usable[0]} is used.")
    elif len(usable) == 2:
        _compare(forms, codes, shape, path)
    scale = np.diag([*[_MM[units]] * 3, 1.0])
    return scale @ forms[usable[0]]


def _stated(header, path: str | os.PathLike, orientation: str | None, unit_mm: float) -> np.ndarray:
    """The geometry of a file without one, by what a person states."""
    if orientation is None:
        raise ValueError(
            f"{path}: expected an orientation, got sform_code and qform_code 0, so that left and "
            "right are unknown. Convert the scan again, set one (nibabel: set_sform(affine, 1)), "
            "or state it: --orientation LPS of register, orientation= in Python."
        )
    with located(path):
        spacing_mm = np.array(header["pixdim"][1:4], np.float64) * unit_mm
        return checked_affine(stated_affine(path, orientation, spacing_mm))


def _compare(forms, codes, shape, path) -> None:
    """Warns where sform and qform put a corner at different positions."""
    grids = [Grid((shape + (1, 1))[:3], forms[name]) for name in ("sform", "qform")]
    apart = grids[0].largest_shift(grids[1])
    if apart > _APART:
        note(
            path,
            "sform-and-qform-differ",
            f"sform (code {codes['sform']}) and qform (code {codes['qform']}) are {apart:.1f} "
            "voxels apart at a corner; the sform is used.",
        )


def _sform(header) -> np.ndarray | None:
    """(4, 4), or None where the rows are no matrix of a grid."""
    return _checked(np.vstack([*(header[f"srow_{axis}"] for axis in "xyz"), (0, 0, 0, 1)]))


def _qform(header) -> np.ndarray | None:
    """(4, 4), or None where quaternion or spacing are none.

    As in the NIfTI library a quaternion that rounding made longer than 1 is a rotation by 180
    degrees, and a pixdim[0] other than -1 stands for 1.
    """
    vector = np.array([header[f"quatern_{axis}"] for axis in "bcd"], np.float64)
    spacing = np.array(header["pixdim"][1:4], np.float64)
    scalar = 1 - vector @ vector
    if not scalar >= -_QUATERNION_EXCESS or not np.all(spacing > 0):
        return None
    quaternion = np.array([math.sqrt(max(scalar, 0.0)), *vector])
    spacing[2] *= -1 if header["pixdim"][0] == -1 else 1
    affine = np.eye(4)
    affine[:3, :3] = quat2mat(quaternion) * spacing
    affine[:3, 3] = [header[f"qoffset_{axis}"] for axis in "xyz"]
    return _checked(affine)


def _checked(affine: np.ndarray) -> np.ndarray | None:
    try:
        return checked_affine(affine)
    except ValueError:
        return None

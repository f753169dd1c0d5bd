"""What the vectors in a file mean: displacements or positions, RAS or LPS, by who wrote them.

- ITK, ANTs, elastix, Slicer, jaxreg: displacements, LPS; in NIfTI intent code 1007 (VECTOR).
- NIfTI intent code 1006 (DISPVECT): displacements, RAS, as ITK 5.4 reads it (itkNiftiImageIO.cxx,
  ConvertRASDisplacementVectors).
- NiftyReg: code 1007, intent_name "NREG_TRANS", RAS; intent_p1 is the kind (NREG_TRANS_TYPE in
  reg-lib/cpu/Maths.hpp): 0 positions, 1 displacements.
- SPM: code 1007, intent_name "Mapping" (y_*.nii, iy_*.nii): positions, RAS.

All are in mm and go from the grid of the file, the fixed image's, to the moving image.
"""

import os

import numpy as np

from jaxreg.geometry.volume import DisplacementField
from jaxreg.io.layout import in_array_order
from jaxreg.io.nifti_header import Header
from jaxreg.io.notes import note
from jaxreg.io.values import located

LPS = np.array([-1.0, -1.0, 1.0], np.float32)  # RAS to LPS and back
VECTOR, DISPVECT = 1007, 1006
_NIFTYREG, _SPM = "NREG_TRANS", "Mapping"
_NIFTYREG_KINDS = {
    2: "a cubic B-spline control point grid",
    3: "a velocity field",
    4: "a velocity field",
    5: "a velocity control point grid",
    6: "a linear B-spline control point grid",
}
_SAMPLES = 24  # along each axis
_ALIKE = 0.4  # of the grid's extent: positions after any registration are nearer to the voxels


def nifti_field(path: str | os.PathLike, vectors: np.ndarray, header: Header) -> DisplacementField:
    """Returns the field that a NIfTI file means by its vectors.

    Args:
        path: for messages.
        vectors: as stored, (X, Y, Z, 3).
        header: of the file.

    Raises:
        ValueError: a kind that is not known or no field, positions, or what is not finite.
    """
    if header.intent_name == _NIFTYREG:
        positions = _niftyreg_positions(path, header.intent_p1)
    elif header.intent_name == _SPM:
        positions = True
    elif header.intent == DISPVECT:
        positions = False
    else:
        _note_name(path, header.intent_name)
        return lps_field(path, vectors, header.affine)
    if not positions:
        return _field(path, in_array_order(vectors, np.float32), header.affine)
    displacements = np.empty(vectors.shape, np.float32)
    for c in range(3):
        displacements[..., c] = vectors[..., c] - _position(vectors.shape[:3], header.affine, c)
    with located(path):
        return DisplacementField(displacements, header.affine)


def lps_field(
    path: str | os.PathLike, vectors: np.ndarray, affine: np.ndarray
) -> DisplacementField:
    """Returns the field of displacements as ITK stores them.

    Args:
        path: for messages.
        vectors: displacements, (X, Y, Z, 3), LPS mm.
        affine: (4, 4), voxel to world RAS mm.

    Raises:
        ValueError: they are positions, or not finite.
    """
    return _field(path, in_array_order(vectors, np.float32, signs=LPS), affine)


def _field(path, vectors: np.ndarray, affine: np.ndarray) -> DisplacementField:
    with located(path):
        field = DisplacementField(vectors, affine)
        if _are_positions(field):
            raise ValueError(
                "expected displacements, got vectors that grow with the position of the voxel, as "
                "absolute positions do. Subtract the position of each voxel, in mm, first."
            )
    return field


def _niftyreg_positions(path: str | os.PathLike, kind: float) -> bool:
    """Whether a file of NiftyReg holds positions; displacements if not."""
    if kind not in (0, 1):
        found = _NIFTYREG_KINDS.get(int(kind) if np.isfinite(kind) else -1, "an unknown kind")
        raise ValueError(
            f"{path}: expected a displacement or deformation field, got {found} of NiftyReg "
            f"(intent_name {_NIFTYREG}, intent_p1 {kind:g}). Convert it: reg_transform -ref FIXED "
            "-disp FILE OUT."
        )
    return kind == 0


def _note_name(path: str | os.PathLike, name: str) -> None:
    if name:
        note(
            path,
            "unknown-vectors",
            f"the header calls these vectors {name!r}, a name that jaxreg does not know; they are "
            "taken as displacements in LPS mm, as ITK stores them.",
        )


def _position(shape: tuple[int, ...], affine: np.ndarray, component: int) -> np.ndarray:
    """One component of the world positions of the voxels, (X, Y, Z), RAS mm, float64."""
    x, y, z = np.ogrid[tuple(slice(n) for n in shape)]
    row = affine[component]
    return x * row[0] + y * row[1] + z * row[2] + row[3]


def _are_positions(field: DisplacementField) -> bool:
    """Whether vectors are nearly the positions of the voxels, in RAS or LPS, but for a shift."""
    steps = [max(n // _SAMPLES, 1) for n in field.shape]
    some = tuple(slice(None, None, step) for step in steps)
    vectors = field.data[some].astype(np.float64)
    affine = field.affine @ np.diag([*steps, 1.0])
    places = np.stack([_position(vectors.shape[:3], affine, c) for c in range(3)], axis=-1)
    vectors, places = (a - a.mean(axis=(0, 1, 2)) for a in (vectors, places))
    limit = _ALIKE * np.linalg.norm(places)
    return any(bool(np.linalg.norm(vectors - places * s) < limit) for s in (1.0, LPS))

"""A registration as DICOM: the warped image as a CT series, and the deformation as an object.

Both belong to the study and to the frame of reference of the fixed series. Lengths are mm, LPS.
"""

import datetime
import os
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from jaxreg.geometry.volume import DisplacementField, Volume, require_same_grid
from jaxreg.io.atomic import replacing_set
from jaxreg.io.dicom_series import Series

REGISTRATION = "registration.dcm"
_LPS = np.array([-1.0, -1.0, 1.0])
_CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
_DEFORMABLE_SPATIAL_REGISTRATION = "1.2.840.10008.5.1.4.1.1.66.3"
_STUDY = (
    *("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex"),
    *("PatientAge", "PatientSize", "PatientWeight", "PatientIdentityRemoved"),
    *("DeidentificationMethod", "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID"),
    *("StudyDescription", "AccessionNumber", "ReferringPhysicianName"),
    *("FrameOfReferenceUID", "PositionReferenceIndicator", "SpecificCharacterSet"),
)
_EMPTY = (  # type 2: there, perhaps without a value
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"),
    *("StudyID", "AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator"),
)
_IMAGE = ("PatientPosition", "BodyPartExamined", "WindowCenter", "WindowWidth")
_MOST_BYTES = 2**32 - 2  # of one value
_LONGEST = 64  # characters of a description
_MOST_NUMBER = 200_000  # of a series, so that the new number has 32 bits
_STORED = (-32768, 32767)


def write_dicom(
    folder: str | os.PathLike,
    field: DisplacementField,
    warped: Volume,
    fixed: Series,
    moving: Series,
) -> list[str]:
    """Writes the warped image as a CT series, and the field as a registration object.

    Args:
        folder: of the new files; their set replaces a former one.
        field: T(x) = x + d(x), fixed to moving, world mm, on any grid.
        warped: HU, on the grid of the fixed series.
        fixed: the series to whose study and frame of reference the files belong.
        moving: the series that was warped.

    Returns:
        The names of the files, that of the registration object last.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
        ValueError: the image is not on the grid of the fixed series; a field beyond 4 GB.
    """
    require_same_grid(fixed.grid, warped, ("fixed", "warped"))
    names = [*(f"warped_{k + 1:04d}.dcm" for k in range(warped.shape[2])), REGISTRATION]
    images = list(warped_series(warped, fixed, moving))
    registration = deformable_registration(field, fixed, moving)
    former = sorted(path.name for path in Path(folder).glob("warped_*.dcm"))
    with replacing_set(folder, [*sorted({*names[:-1], *former}), REGISTRATION]) as hidden:
        for name, dataset in zip(names, [*images, registration], strict=True):
            dataset.save_as(hidden / name, enforce_file_format=True)
    return names


def warped_series(warped: Volume, fixed: Series, moving: Series) -> list[Any]:
    """CT images (PS3.3 A.3) on the slices of the fixed series, in their order.

    Args:
        warped: HU, on the grid of the fixed series.
        fixed: the series to whose study they belong.
        moving: the series that was warped, which their description names.

    Returns:
        Data sets of pydicom, with a new SeriesInstanceUID, derived from other images.
    """
    from pydicom.uid import generate_uid

    series, what = generate_uid(prefix=None), f"{_scan(moving)}, warped"
    affine = np.diag([*_LPS, 1.0]) @ warped.affine
    spacing = np.array(warped.spacing_mm)
    directions = affine[:3, :3] / spacing
    stored = np.clip(np.rint(warped.data), *_STORED).astype("<i2")
    datasets = []
    for k in range(warped.shape[2]):
        dataset = _new(fixed, _CT_IMAGE, series, "CT", what, instance=k + 1)
        for name in _IMAGE:
            if name in fixed.header:
                dataset[name] = fixed.header[name]
        dataset.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
        dataset.DerivationDescription = (
            f"{_scan(moving)}, warped to {_scan(fixed)} by deformable registration"
        )
        dataset.ImagePositionPatient = _decimals(affine[:3] @ [0.0, 0.0, k, 1.0])
        dataset.ImageOrientationPatient = _decimals(directions[:, :2].T.ravel())
        dataset.PixelSpacing = _decimals(spacing[[1, 0]])  # between rows first
        dataset.SliceThickness = _decimals([spacing[2]])[0]
        dataset.KVP = dataset.AcquisitionNumber = None
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.Columns, dataset.Rows = warped.shape[:2]
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit, dataset.PixelRepresentation = 15, 1
        dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = 1, 0, "HU"
        dataset.PixelData = np.ascontiguousarray(stored[:, :, k].T).tobytes()
        datasets.append(dataset)
    return datasets


def deformable_registration(field: DisplacementField, fixed: Series, moving: Series) -> Any:
    """A Deformable Spatial Registration object (PS3.3 A.39.2, module C.20.3) of a field.

    The object's own frame of reference is the Registered RCS, that of the fixed images; each item
    of its Deformable Registration Sequence takes points of it to a Source RCS, that of the moving
    images (C.20.3.1.1):

        x_source = M_post (M_pre x_registered + d(x_registered)),

    so that d is the displacement as it is here, T(x) = x + d(x), and both matrices are the
    identity. The vectors of the Deformable Registration Grid are float32 triplets, x fastest, on a
    grid with right angles that is right-handed, as its third direction is the cross product of the
    two of ImageOrientationPatient (C.20.3.1.3).

    Args:
        field: world mm, RAS; a sheared grid is replaced by a rectangular one that covers it.
        fixed: the series that was registered to.
        moving: the series whose points T(x) are.

    Returns:
        Data set of pydicom.

    Raises:
        ValueError: a field of more than 4 GB, which no value of DICOM holds.
    """
    from pydicom.uid import generate_uid

    if field.data.size * 4 > _MOST_BYTES:
        raise ValueError(
            f"field: expected at most {_MOST_BYTES // 12:,} voxels, which a value of DICOM holds, "
            f"got {field.grid}. Resample it to larger voxels."
        )
    series = generate_uid(prefix=None)
    dataset = _new(
        *(fixed, _DEFORMABLE_SPATIAL_REGISTRATION, series, "REG", f"to {_scan(moving)}"), instance=1
    )
    now = datetime.datetime.now()
    dataset.ContentDate, dataset.ContentTime = f"{now:%Y%m%d}", f"{now:%H%M%S}"
    dataset.ContentLabel, dataset.ContentDescription = "DEFORMABLE", "Deformable registration"
    dataset.ContentCreatorName = None
    identity = _item(
        FrameOfReferenceTransformationMatrixType="RIGID",
        FrameOfReferenceTransformationMatrix=np.eye(4).ravel().tolist(),
    )
    code = _item(
        CodeValue="125024",
        CodingSchemeDesignator="DCM",
        CodeMeaning="Image Content-based Alignment",
    )
    dataset.DeformableRegistrationSequence = [
        _item(
            SourceFrameOfReferenceUID=moving.header.FrameOfReferenceUID,
            ReferencedImageSequence=_references(moving),
            RegistrationTypeCodeSequence=[code],
            PreDeformationMatrixRegistrationSequence=[identity],
            PostDeformationMatrixRegistrationSequence=[identity],
            DeformableRegistrationGridSequence=[_grid(field)],
        )
    ]
    same_study = fixed.header.StudyInstanceUID == moving.header.StudyInstanceUID
    in_study = [_series_item(fixed)] + ([_series_item(moving)] if same_study else [])
    dataset.ReferencedSeriesSequence = in_study
    if not same_study:
        dataset.StudiesContainingOtherReferencedInstancesSequence = [
            _item(
                StudyInstanceUID=moving.header.StudyInstanceUID,
                ReferencedSeriesSequence=[_series_item(moving)],
            )
        ]
    return dataset


def _grid(field: DisplacementField) -> Any:
    """The item of a Deformable Registration Grid Sequence."""
    if field.grid.is_sheared():
        field = field.on_grid(field.grid.rectangular())
    if np.linalg.det(field.affine[:3, :3]) < 0:  # det is that of LPS, too
        field = _reversed(field)
    affine = np.diag([*_LPS, 1.0]) @ field.affine
    spacing = np.array(field.spacing_mm)
    vectors = (field.data * _LPS.astype(np.float32)).transpose(2, 1, 0, 3)
    return _item(
        ImagePositionPatient=_decimals(affine[:3, 3]),
        ImageOrientationPatient=_decimals((affine[:3, :2] / spacing[:2]).T.ravel()),
        GridDimensions=list(field.shape),
        GridResolution=spacing.tolist(),
        VectorGridData=np.ascontiguousarray(vectors, "<f4").tobytes(),
    )


def _reversed(field: DisplacementField) -> DisplacementField:
    """The same field with its third axis in the other direction."""
    affine = np.array(field.affine)
    affine[:3, 3] = field.grid.world_from_voxel(np.array([0, 0, field.shape[2] - 1]))
    affine[:3, 2] *= -1
    return DisplacementField(field.data[:, :, ::-1], affine)


def _new(fixed: Series, kind: str, series: str, modality: str, what: str, *, instance: int) -> Any:
    """A data set of the fixed study, with an identity of its own."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

    dataset, now = Dataset(), datetime.datetime.now()
    number = _number_after(fixed.header.get("SeriesNumber"), kind)
    for name in _STUDY:
        if name in fixed.header:
            dataset[name] = fixed.header[name]
    for name in _EMPTY:
        if name not in dataset:
            setattr(dataset, name, None)
    dataset.SOPClassUID, dataset.SOPInstanceUID = kind, generate_uid(prefix=None)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = UID(kind)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = f"{now:%Y%m%d}", f"{now:%H%M%S}"
    dataset.Modality, dataset.SeriesInstanceUID, dataset.SeriesNumber = modality, series, number
    dataset.SeriesDescription = f"jaxreg: {what}"[:_LONGEST]
    dataset.SeriesDate, dataset.SeriesTime = f"{now:%Y%m%d}", f"{now:%H%M%S}"
    dataset.Manufacturer, dataset.ManufacturerModelName = "jaxreg", "jaxreg"
    dataset.SoftwareVersions, dataset.InstanceNumber = metadata.version("jaxreg"), instance
    return dataset


def _scan(series: Series) -> str:
    """The date and the description of a series, the date first, as a description may be cut."""
    words = [str(series.header.get(name) or "") for name in ("StudyDate", "SeriesDescription")]
    text = " ".join(" ".join(words).split()).replace("\\", "/") or "scan without a date"
    return text.encode("ascii", "replace").decode()  # in the character set of any study


def _number_after(number: Any, kind: str) -> int:
    """A SeriesNumber that stands after the fixed one's in a list: of 3, 30001 or 30002."""
    first = int(number) if number is not None and 0 <= int(number) < _MOST_NUMBER else 0
    return first * 10_000 + (1 if kind == _CT_IMAGE else 2)


def _references(series: Series) -> list[Any]:
    return [
        _item(ReferencedSOPClassUID=kind, ReferencedSOPInstanceUID=uid)
        for kind, uid in series.instances
    ]


def _series_item(series: Series) -> Any:
    return _item(
        SeriesInstanceUID=series.header.SeriesInstanceUID,
        ReferencedInstanceSequence=_references(series),
    )


def _item(**values: Any) -> Any:
    from pydicom.dataset import Dataset

    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return item


def _decimals(values: Sequence[float] | np.ndarray) -> list[str]:
    """Numbers as decimal strings of at most 16 characters."""
    texts = []
    for value in values:
        digits = next(n for n in range(14, 0, -1) if len(f"{value + 0.0:.{n}g}") <= 16)
        texts.append(f"{value + 0.0:.{digits}g}")
    return texts

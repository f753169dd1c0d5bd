"""CT series as scanners and archives write them."""

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian

SHAPE = (35, 33, 5)  # columns, rows, slices
SPACING = (0.9, 1.1)  # from column to column, from row to row
SUPINE = (1.0, 0, 0, 0, 1, 0)


def header(uid, *, kind=CTImageStorage, series="1.2.3.4", number=3):
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = kind
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = uid
    dataset.Modality, dataset.SeriesInstanceUID, dataset.SeriesNumber = "CT", series, number
    dataset.StudyInstanceUID, dataset.PatientID, dataset.PatientName = "1.2.3", "x", "x"
    dataset.SeriesDescription = f"series {number}"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 1
    return dataset


def write_slice(path, stored, position, *, uid, directions=SUPINE, spacing=SPACING, **more):
    """Writes one image; `stored` is (columns, rows), int16.

    Args:
        path: of the file.
        stored: numbers before the rescale.
        position: ImagePositionPatient.
        uid: SOPInstanceUID.
        directions: ImageOrientationPatient.
        spacing: from column to column and from row to row; None leaves PixelSpacing out.
        more: series and number (see `header`), slope and intercept; other attributes by name.
    """
    named = {key: more.pop(key) for key in ("series", "number") if key in more}
    dataset = header(uid, **named)
    dataset.RescaleSlope = more.pop("slope", 1)
    dataset.RescaleIntercept = more.pop("intercept", -1024)
    dataset.Columns, dataset.Rows = stored.shape
    dataset.ImagePositionPatient = [f"{x:.10g}"[:16] for x in position]
    dataset.ImageOrientationPatient = [f"{x:.10g}"[:16] for x in directions]
    if spacing is not None:
        dataset.PixelSpacing = [spacing[1], spacing[0]]  # between rows first
    dataset.PixelData = np.ascontiguousarray(stored.T, "<i2").tobytes()
    for key, value in more.items():
        setattr(dataset, key, value)
    dataset.save_as(path, enforce_file_format=True)
    return path


def stored_values(seed=0):
    return np.random.default_rng(seed).integers(0, 1500, SHAPE).astype(np.int16)


def write_series(folder, positions, *, stored=None, series="1.2.3.4", first=1, **more):
    """Writes a slice at each position; returns the folder."""
    folder.mkdir(exist_ok=True)
    stored = stored_values() if stored is None else stored
    for k, position in enumerate(positions):
        write_slice(
            *(folder / f"{series}-{first + k:03d}.dcm", stored[:, :, k], position),
            **dict(uid=f"{series}.{first + k}", series=series, InstanceNumber=first + k, **more),
        )
    return folder


def write_enhanced(path, positions, *, directions=SUPINE, slopes=None):
    """Writes a multi-frame image; geometry of each frame apart, orientation shared by all."""
    stored = stored_values()
    dataset = header("1.2.3.4.9", kind=EnhancedCTImageStorage)
    dataset.NumberOfFrames, (dataset.Columns, dataset.Rows) = len(positions), SHAPE[:2]
    dataset.PixelData = np.ascontiguousarray(stored.T, "<i2").tobytes()
    dataset.PerFrameFunctionalGroupsSequence = [
        group(
            PlanePositionSequence={"ImagePositionPatient": list(map(float, position))},
            PixelValueTransformationSequence={
                "RescaleSlope": 1 if slopes is None else slopes[k],
                "RescaleIntercept": -1024,
                "RescaleType": "HU",
            },
        )
        for k, position in enumerate(positions)
    ]
    dataset.SharedFunctionalGroupsSequence = [
        group(
            PlaneOrientationSequence={"ImageOrientationPatient": list(directions)},
            PixelMeasuresSequence={"PixelSpacing": [SPACING[1], SPACING[0]]},
        )
    ]
    dataset.save_as(path, enforce_file_format=True)
    return stored


def group(**sequences):
    item = Dataset()
    for name, values in sequences.items():
        inner = Dataset()
        for key, value in values.items():
            setattr(inner, key, value)
        setattr(item, name, [inner])
    return item


def compress(path, syntax):
    """Compresses the pixels of a file: with SimpleITK for JPEGLosslessSV1, else with pydicom."""
    dataset = pydicom.dcmread(path)
    if syntax != "JPEGLosslessSV1":
        dataset.compress(getattr(pydicom.uid, syntax))
    else:
        writer, copy = sitk.ImageFileWriter(), path.with_suffix(".sitk.dcm")
        writer.SetFileName(str(copy))
        writer.UseCompressionOn()
        writer.SetCompressor("JPEG")
        writer.Execute(sitk.GetImageFromArray(dataset.pixel_array[None]))
        packed = pydicom.dcmread(copy)
        copy.unlink()
        dataset.PixelData = packed.PixelData
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = packed.file_meta.TransferSyntaxUID
        assert dataset.file_meta.TransferSyntaxUID == pydicom.uid.JPEGLosslessSV1
    dataset.save_as(path, enforce_file_format=True)

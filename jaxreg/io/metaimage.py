"""Headers of MetaImage files, .mha and .mhd (itk.org/Wiki/ITK/MetaIO/Documentation).

World coordinates are LPS, whatever AnatomicalOrientation says, as in ITK.
"""

import os
from pathlib import Path

import numpy as np

from jaxreg.io.stream import Damaged
from jaxreg.io.text_header import Header, listed_files, numbers, read_start, sizes, unit_mm

_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_MATRIX = ("TransformMatrix", "Rotation", "Orientation")
_ORIGIN = ("Offset", "Position", "Origin")


def parse(path: str | os.PathLike) -> Header:
    """Returns what the header of a file says.

    Raises:
        Damaged: no MetaImage header, or numbers in it that no image has.
        FileNotFoundError: the file with the values is not there.
        ValueError: no 3-D image, or without ElementSpacing.
    """
    fields, end, following = _fields(read_start(path))
    axes = numbers(fields.get("NDims", ""), int, "NDims", 1)[0]
    if not 1 <= axes <= 10:
        raise Damaged(f"{axes} as NDims")
    shape = tuple(sizes(fields.get("DimSize", ""), "DimSize", axes))
    components = sizes(fields.get("ElementNumberOfChannels", "1"), "ElementNumberOfChannels", 1)[0]
    if len(shape) != 3 or min(shape) < 2:
        raise ValueError(
            f"{path}: expected a 3-D image with one number per voxel, got shape {shape} with "
            f"{components}. Give one whole scan: no single slice, series or colour image."
        )
    kind = fields.get("ElementType", "").removesuffix("_ARRAY")
    if kind not in _TYPES:
        raise Damaged(f"'{kind}' as ElementType")
    order = ">" if _flag(fields, "BinaryDataByteOrderMSB", "ElementByteOrderMSB") else "<"
    codec = "zlib" if _flag(fields, "CompressedData") else "raw"
    if not _flag(fields, "BinaryData", default=True):
        codec = "text"
    local = fields["ElementDataFile"].upper() == "LOCAL"
    start = end if local else numbers(fields.get("HeaderSize", "0"), int, "HeaderSize", 1)[0]
    files = (Path(path),)
    if not local:
        files = listed_files(Path(path).parent, fields["ElementDataFile"], following)
    dtype = np.dtype(_TYPES[kind]).newbyteorder(order)
    affine = _affine(fields, path)
    return Header(
        (shape[0], shape[1], shape[2]), components, True, dtype, affine, codec, files, start
    )


def _fields(block: bytes) -> tuple[dict[str, str], int, list[str]]:
    """Fields up to ElementDataFile, which is the last; where it ends; the lines after it."""
    fields, end = {}, 0
    while True:
        stop = block.find(b"\n", end)
        line = block[end : stop if stop >= 0 else len(block)].decode("latin-1")
        key, equals, value = line.partition("=")
        # ITK adds what other formats say of an image, such as "dim[0] = 3" of NIfTI
        if line.strip() and not (equals and key.strip() and key.isprintable()):
            raise Damaged("no MetaImage header at the beginning")
        fields[key.strip()] = value.strip()
        if stop < 0 and "ElementDataFile" not in fields:
            raise Damaged("a header without ElementDataFile")
        end = stop + 1 if stop >= 0 else len(block)
        if "ElementDataFile" in fields:
            return fields, end, block[end:].decode("latin-1").splitlines()


def _flag(fields: dict[str, str], *keys: str, default: bool = False) -> bool:
    values = [fields[key] for key in keys if key in fields]
    return values[0][:1].upper() in ("T", "1") if values else default


def _affine(fields: dict[str, str], path: str | os.PathLike) -> np.ndarray:
    """Voxel to world RAS mm. Each axis has a row of TransformMatrix."""
    text = fields.get("ElementSpacing", fields.get("ElementSize"))
    if text is None:
        raise ValueError(
            f"{path}: expected ElementSpacing, the size of a voxel, got none. Add the line "
            "'ElementSpacing = X Y Z' in millimetres before ElementDataFile."
        )
    unit = unit_mm([fields.get("DistanceUnits", "")], "DistanceUnits")
    spacing = np.array(numbers(text, float, "ElementSpacing", 3)) * unit
    matrix = _first(fields, _MATRIX, "1 0 0 0 1 0 0 0 1")
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(numbers(matrix, float, "TransformMatrix", 9), (3, 3)).T * spacing
    affine[:3, 3] = np.array(numbers(_first(fields, _ORIGIN, "0 0 0"), float, "Offset", 3)) * unit
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _first(fields: dict[str, str], keys: tuple[str, ...], default: str) -> str:
    """The value of the one field that is there, by any of its names."""
    given = {key: fields[key] for key in keys if key in fields}
    if len({tuple(value.split()) for value in given.values()}) > 1:
        raise Damaged(f"{' and '.join(given)} that differ")
    return next(iter(given.values()), default)

"""Headers of NRRD files, .nrrd and .nhdr (teem.sourceforge.net/nrrd/format.html)."""

import os
import re
from pathlib import Path

import numpy as np

from jaxreg.io.orientation import stated_affine
from jaxreg.io.stream import Damaged
from jaxreg.io.text_header import Header, listed_files, numbers, read_start, sizes, unit_mm

_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_CODECS = {"raw": "raw", "gzip": "gzip", "gz": "gzip", "ascii": "text", "text": "text"}
_RAS_SIGNS = {
    "right-anterior-superior": (1, 1, 1),
    "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1),
    "las": (-1, 1, 1),
    "left-posterior-superior": (-1, -1, 1),
    "lps": (-1, -1, 1),
}
_QUOTED = re.compile(r'"([^"]*)"')
_VECTOR = re.compile(r"\(([^()]*)\)|none")


def parse(path: str | os.PathLike, *, orientation: str | None = None) -> Header:
    """Returns what the header of a file says.

    Args:
        path: of the file.
        orientation: of a file that does not say it, such as "LPS" (`jaxreg.io.orientation`).

    Raises:
        Damaged: no NRRD header, or numbers in it that no image has.
        FileNotFoundError: the file with the values is not there.
        ValueError: no 3-D image, or without `space`.
    """
    fields, end, following = _fields(read_start(path))
    axes = numbers(fields.get("dimension", ""), int, "dimension", 1)[0]
    if not 1 <= axes <= 16:
        raise Damaged(f"{axes} as dimension")
    shape = sizes(fields.get("sizes", ""), "sizes", axes)
    if orientation is not None and "space" not in fields:
        affine, spatial = _stated(fields, axes, path, orientation)
    else:
        affine, spatial = _affine(fields, axes, path)
    inside = [shape[axis] for axis in spatial]
    others = [axis for axis in range(axes) if axis not in spatial]
    if len(inside) != 3 or min(inside) < 2 or len(others) > 1 or others not in ([], [0], [3]):
        raise ValueError(
            f"{path}: expected a 3-D image with one number per voxel, got shape {tuple(shape)}. "
            "Give one whole scan: no single slice, series or colour image."
        )
    name = fields.get("type", "").lower()
    kind = next((code for code, aliases in _TYPES.items() if name in aliases), None)
    codec = _CODECS.get(fields.get("encoding", "").lower())
    if kind is None or codec is None:
        raise Damaged(f"type '{name}' and encoding '{fields.get('encoding', '')}'")
    order = ">" if fields.get("endian", "little").lower() == "big" else "<"
    files, start = _place(fields, Path(path), end, following)
    if start < 0 and codec != "raw":
        raise Damaged(f"{start} as byte skip of compressed values")
    components = shape[others[0]] if others else 1
    return Header(
        (inside[0], inside[1], inside[2]),
        *(components, others != [3], np.dtype(kind).newbyteorder(order), affine),
        *(codec, files, start),
    )


def _fields(block: bytes) -> tuple[dict[str, str], int, list[str]]:
    """Fields up to the empty line, or to the end of a file without values; the lines after."""
    if not block.startswith(b"NRRD000"):
        raise Damaged("no NRRD header at the beginning")
    found = re.search(rb"\r?\n\r?\n", block)
    end = found.end() if found else len(block)
    text = block[:end].decode("latin-1").splitlines()
    fields = {}
    for number, line in enumerate(text[1:], 1):
        key, colon, value = line.partition(":")
        if line.startswith("#") or not colon or value.startswith("="):
            continue
        key = {"centerings": "centers", "datafile": "data file"}.get(key.lower(), key.lower())
        if key in fields:
            raise Damaged(f"the field '{key[:40]}' twice")
        fields[key] = value.strip()
        if key == "data file" and value.split()[:1] == ["LIST"]:
            return fields, end, text[number + 1 :]  # names fill the rest of the header
    if not found and "data file" not in fields:
        raise Damaged("a header without an end")
    return fields, end, []


def _place(
    fields: dict[str, str], path: Path, end: int, following: list[str]
) -> tuple[tuple[Path, ...], int]:
    """The files with the values, and the byte at which these begin."""
    skip = numbers(fields.get("byte skip", fields.get("byteskip", "0")), int, "byte skip", 1)[0]
    lines = numbers(fields.get("line skip", fields.get("lineskip", "0")), int, "line skip", 1)[0]
    if lines or skip < -1:
        raise Damaged(f"{lines} as line skip and {skip} as byte skip, which are not read")
    if "data file" not in fields:
        return (path,), end if skip == 0 else skip
    return listed_files(path.parent, fields["data file"], following), skip


def _affine(
    fields: dict[str, str], axes: int, path: str | os.PathLike
) -> tuple[np.ndarray, list[int]]:
    """Voxel to world RAS mm, and which axes are in space."""
    signs = _RAS_SIGNS.get(fields.get("space", "").lower())
    if signs is None or "space directions" not in fields:
        got = fields.get("space") or "none"
        raise ValueError(
            f"{path}: expected an orientation, 'space' (such as left-posterior-superior) with "
            f"'space directions', got {got if signs is None else 'no space directions'}, so that "
            "left and right are unknown. Write it with Slicer or SimpleITK, or state it where "
            "there is no 'space': --orientation LPS of register, orientation= in Python."
        )
    vectors = _directions(fields, axes)
    spatial = list(vectors)
    unit = unit_mm(_QUOTED.findall(fields.get("space units", "")), "space units")
    affine = np.eye(4)
    affine[:3, : len(spatial[:3])] = np.transpose([vectors[axis] for axis in spatial[:3]])
    origin = fields.get("space origin", "(0,0,0)").strip("() ")
    affine[:3, 3] = numbers(origin, float, "space origin", 3)
    return np.diag([*(unit * sign for sign in signs), 1.0]) @ affine, spatial


def _directions(fields: dict[str, str], axes: int) -> dict[int, list[float]]:
    """Step in space from voxel to voxel along each axis that is in space."""
    entries = list(_VECTOR.finditer(fields["space directions"]))
    if len(entries) != axes:
        raise Damaged(f"{len(entries)} space directions of {axes} axes")
    return {
        axis: numbers(entry[1], float, "space directions", 3)
        for axis, entry in enumerate(entries)
        if entry[1] is not None
    }


def _stated(
    fields: dict[str, str], axes: int, path: str | os.PathLike, orientation: str
) -> tuple[np.ndarray, list[int]]:
    """Voxel to world RAS mm by what a person states, and which axes are in space."""
    if "space directions" in fields:
        vectors = _directions(fields, axes)
        spacing_mm = {axis: float(np.linalg.norm(vector)) for axis, vector in vectors.items()}
    else:
        spacing_mm = dict(enumerate(numbers(fields.get("spacings", ""), float, "spacings", axes)))
    if len(spacing_mm) != 3:
        raise Damaged(f"{len(spacing_mm)} axes in space")
    return stated_affine(path, orientation, np.array(list(spacing_mm.values()))), list(spacing_mm)

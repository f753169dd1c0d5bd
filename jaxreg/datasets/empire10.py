"""EMPIRE10: 30 pairs of thoracic CT (Murphy et al. 2011, IEEE Trans Med Imaging 30(11)).

    scans/01_Fixed.mhd, scans/01_Moving.mhd            images, MetaImage
    lungMasks/01_Fixed.mhd, lungMasks/01_Moving.mhd    lungs, supplied with the images

Folders may be nested in any way; the one with "mask" in its name holds masks. The challenge keeps
its references. Who has some of their own lays them beside under the same rule:

    lobes/01_Fixed.mhd, lobes/01_Moving.mhd            lobes, for the fissures; "lobe" in the name
    landmarks/01.csv                                   as in jaxreg.io.points

The organisers score uploaded fields: `write_submission`.
"""

import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from jaxreg.datasets.manifest import Pair
from jaxreg.geometry.volume import DisplacementField, Grid
from jaxreg.io.atomic import replacing

SOURCE = "https://empire10.grand-challenge.org"
_NAME = re.compile(r"(\d\d)_(fixed|moving)\.(mhd|mha)", re.IGNORECASE)
_KINDS = {"mask": "_mask", "lobe": "_labels"}  # by a part of a folder's name


def find_pairs(folder: str | os.PathLike) -> tuple[Pair, ...]:
    """Returns the pairs in a folder, by number; no file is opened.

    Args:
        folder: as unpacked.

    Raises:
        FileNotFoundError: there is no scan, or a scan lacks its partner; says where to get them.
        ValueError: two files have the same role.
    """
    folder = Path(folder)
    files: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.rglob("*")):
        number, role = _role(path.relative_to(folder))
        if role and role in files.setdefault(number, {}):
            raise ValueError(
                f"{folder}: expected one {role} of pair {number}, got {files[number][role]} and "
                f"{path}. Remove one; folders of masks and lobes are recognised by their names."
            )
        if role:
            files[number][role] = path
    pairs = {number: found for number, found in files.items() if {"fixed", "moving"} & found.keys()}
    for number, found in pairs.items() or {"01": {}}.items():
        for missing in {"fixed", "moving"} - found.keys():
            raise FileNotFoundError(
                f"{folder}: expected scans/{number}_{missing.capitalize()}.mhd of EMPIRE10 and its "
                f".raw, there or at any depth, got no such file. Register at {SOURCE}, download "
                "the scans and lung masks, and unpack them there."
            )
    return tuple(Pair(id=number, **pairs[number]) for number in sorted(pairs))


def write_submission(
    folder: str | os.PathLike, number: str, field: DisplacementField, moving: Grid
) -> None:
    """Writes NN/defX, defY, defZ as .mhd and .raw: float32 mm on the fixed grid.

    The challenge knows no world: a fixed voxel lies at its index times its spacing, and so does a
    moving one; a vector is the moving position minus the fixed one (its page "Deformation Field
    Interpretation").

    Args:
        folder: of the whole submission.
        number: of the pair, "01" to "30".
        field: fixed to moving.
        moving: grid of the moving image.
    """
    folder = Path(folder) / number
    folder.mkdir(parents=True, exist_ok=True)
    shift = field.index_shift(moving)
    for axis, (name, n) in enumerate(zip("XYZ", field.shape, strict=True)):
        fixed_mm, moving_mm = field.spacing_mm[axis], moving.spacing_mm[axis]
        index = np.arange(n).reshape([-1 if a == axis else 1 for a in range(3)])
        values = moving_mm * shift[..., axis] + (moving_mm - fixed_mm) * index
        with replacing(folder / f"def{name}.raw") as raw:
            np.ascontiguousarray(values.T, "<f4").tofile(raw)  # x fastest
        with replacing(folder / f"def{name}.mhd") as header:
            header.write_text(_header(field, f"def{name}.raw"), encoding="utf-8")


def _header(field: DisplacementField, raw: str) -> str:
    """MetaImage header with the origin at 0 and without rotation, as the scans have."""
    numbers = {
        "TransformMatrix": (1, 0, 0, 0, 1, 0, 0, 0, 1),
        "Offset": (0, 0, 0),
        "CenterOfRotation": (0, 0, 0),
        "ElementSpacing": field.spacing_mm,
        "DimSize": field.shape,
    }
    lines = [
        "ObjectType = Image",
        "NDims = 3",
        "BinaryData = True",
        "BinaryDataByteOrderMSB = False",
        "CompressedData = False",
        *(f"{key} = {' '.join(f'{x:.9g}' for x in values)}" for key, values in numbers.items()),
        "ElementType = MET_FLOAT",
        f"ElementDataFile = {raw}",  # must be the last line
    ]
    return "\n".join(lines) + "\n"


def _role(path: Path) -> tuple[str, str]:
    """Number of the pair and attribute of `Pair` that a file is for; empty if none."""
    parents = [part.lower() for part in path.parts[:-1]]
    points = re.fullmatch(r"(\d\d)\.csv", path.name)
    if points and parents and "landmark" in parents[-1]:
        return points[1], "landmarks"
    name = _NAME.fullmatch(path.name)
    if not name:
        return "", ""
    kinds = [kind for text, kind in _KINDS.items() if any(text in part for part in parents)]
    return name[1], name[2].lower() + (kinds[0] if kinds else "")

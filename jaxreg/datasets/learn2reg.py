"""Learn2Reg: pairs of a dataset JSON, and displacements in its format.

    NLST_dataset.json       {"name": "NLST", "registration_val": [{
                                "fixed": "./imagesTr/NLST_0101_0000.nii.gz",
                                "moving": "./imagesTr/NLST_0101_0001.nii.gz"}, ...], ...}
    imagesTr/NLST_0101_0000.nii.gz, imagesTr/NLST_0101_0001.nii.gz
    masksTr/NLST_0101_0000.nii.gz, ...
    keypointsTr/NLST_0101_0000.csv, ...

Masks, labels, keypoints and landmarks have the image's path with "images" replaced, as in the
challenge's evaluation (github.com/MDL-UzL/L2R); which of them exist differs from task to task.
Point files have no header: voxels x,y,z of their image, row by row the same anatomy in both.
"""

import dataclasses
import json
import os
import re
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.loadsave import save

from jaxreg.datasets.manifest import LoadedPair, Pair
from jaxreg.geometry.volume import DisplacementField, Grid
from jaxreg.io.atomic import replacing
from jaxreg.io.documents import read_json
from jaxreg.io.images import read_grid
from jaxreg.io.points import Landmarks

SOURCE = "https://learn2reg.grand-challenge.org"
_LISTS = ("registration_val", "registration_test", "eval_pairs", "training_paired_images")
_SUBJECT = re.compile(r"(\d{4})_(\d{4})\.nii\.gz")


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Pairs of one list of a dataset JSON.

    Attributes:
        name: of the task.
        pairs: as in a manifest; points are not among them, see `read_points`.
        listed: which list of the file the pairs are from.
        masked: whether SDlogJ is that of the fixed image's mask: as an evaluation config says; a
            dataset JSON does not say, and then it is.
    """

    name: str
    pairs: tuple[Pair, ...]
    listed: str
    masked: bool


def read_dataset(path: str | os.PathLike) -> Dataset:
    """Returns the validation pairs of a dataset JSON, else its test, else its training pairs.

    Args:
        path: NAME_dataset.json, or the challenge's NAME_VAL_evaluation_config.json beside it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file lists no pairs, or pairs of another form.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: expected the dataset JSON of a Learn2Reg task, such as NLST_dataset.json "
            "beside its folders imagesTr, masksTr and keypointsTr, got no such file. Download the "
            f"task at {SOURCE} and unpack it there."
        )
    content = read_json(path)
    content = content if isinstance(content, dict) else {}
    listed = next((name for name in _LISTS if content.get(name)), None)
    if listed is None:
        raise ValueError(
            f"{path}: expected a list of pairs under {', '.join(_LISTS)}, got the keys "
            f"{', '.join(content) or 'none'}. Give the dataset JSON of a task with paired images."
        )
    if not isinstance(content[listed], list):
        raise ValueError(
            f"{path}: expected a list under {listed}, got {json.dumps(content[listed])[:40]}. "
            "Download the file again."
        )
    pairs = tuple(_pair(path, entry) for entry in content[listed])
    masked = bool(content.get("masked_evaluation", listed != "eval_pairs"))
    name = content.get("name") or content.get("task_name", "")
    return Dataset(str(name), pairs, listed, masked)


def load_pair(pair: Pair) -> LoadedPair:
    """Returns the contents of a pair's files, keypoints and landmarks included."""
    return dataclasses.replace(
        pair.load(),
        keypoints=read_points(pair, "keypoints"),
        landmarks=read_points(pair, "landmarks"),
    )


def read_points(pair: Pair, kind: str) -> Landmarks | None:
    """Returns corresponding points in RAS mm, or None where the task has none for this pair.

    Args:
        pair: of a dataset.
        kind: "keypoints" or "landmarks".

    Raises:
        ValueError: a file is damaged, or the two files differ in their number of points.
    """
    files = [_beside(image, kind) for image in (pair.fixed, pair.moving)]
    if not all(files):
        return None
    points = [
        _read_voxels(file, read_grid(image))
        for file, image in zip(files, (pair.fixed, pair.moving), strict=True)
        if file
    ]
    try:
        return Landmarks(*points, kind=np.full(len(points[0]), kind.removesuffix("s")))
    except ValueError as error:
        raise ValueError(f"{files[0]}, {files[1]}: {error}") from error


def write_displacement(
    folder: str | os.PathLike, pair: LoadedPair, field: DisplacementField
) -> np.ndarray:
    """Writes disp_FFFF_MMMM.nii.gz: (X, Y, Z, 3), voxels, float32, on the fixed grid.

    The moving voxel of fixed voxel x is x + disp[x], as for scipy.ndimage.map_coordinates.

    Args:
        folder: where to.
        pair: whose id is FFFF_MMMM.
        field: fixed to moving.

    Returns:
        What was written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    shift = field.index_shift(pair.moving.grid)
    with replacing(folder / f"disp_{pair.id}.nii.gz") as temporary:
        save(nibabel.Nifti1Image(shift, field.affine), temporary)
    return shift


def _pair(path: Path, entry: Any) -> Pair:
    """The pair of an entry, with masks and labels where they exist."""
    try:
        images = [path.parent / entry[role] for role in ("fixed", "moving")]
        subjects = [_subject(image) for image in images]
        beside = [[_beside(image, kind) for image in images] for kind in ("masks", "labels")]
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise ValueError(
            f'{path}: expected pairs {{"fixed": "imagesTr/NAME_0001_0000.nii.gz", "moving": ...}}, '
            f"got {json.dumps(entry)[:200]}. Correct the file."
        ) from error
    masks, labels = beside
    (fixed, fixed_scan), (moving, moving_scan) = subjects
    short = fixed_scan == moving_scan or (fixed_scan, moving_scan) == ("0000", "0001")
    return Pair(
        id=f"{fixed}_{moving}" if short else f"{fixed}_{fixed_scan}_{moving}_{moving_scan}",
        fixed=images[0],
        moving=images[1],
        fixed_mask=masks[0],
        moving_mask=masks[1],
        fixed_labels=labels[0],
        moving_labels=labels[1],
    )


def _subject(image: Path) -> tuple[str, str]:
    """Four digits of the subject and four of the scan."""
    found = _SUBJECT.fullmatch("_".join(image.name.split("_")[-2:]))
    if not found:
        raise ValueError(image.name)
    return found[1], found[2]


def _beside(image: Path, kind: str) -> Path | None:
    """The file of an image in the folder of masks, labels or points, if it exists."""
    folder = image.parent.with_name(image.parent.name.replace("images", kind))
    points = kind in ("keypoints", "landmarks")
    path = folder / (image.name.replace(".nii.gz", ".csv") if points else image.name)
    return path if folder != image.parent and path.is_file() else None


def _read_voxels(path: Path, grid: Grid) -> np.ndarray:
    """Points of a CSV without header, RAS mm, (N, 3)."""
    try:
        voxels = np.loadtxt(path, delimiter=",", ndmin=2)
    except ValueError as error:
        raise ValueError(
            f"{path}: expected lines x,y,z, got '{str(error)[:200]}'. Download it again."
        ) from error
    if voxels.shape[-1] != 3 or len(voxels) == 0:
        raise ValueError(
            f"{path}: expected lines x,y,z, got shape {voxels.shape}. Download it again."
        )
    return grid.world_from_voxel(voxels)

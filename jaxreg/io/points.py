"""Corresponding points of two images: CSV files in world millimetres.

    # space: LPS
    kind,fixed_x,fixed_y,fixed_z,moving_x,moving_y,moving_z
    vessel,-5.682,163.308,-353.713,-5.442,159.341,-361.500

The comment line says whether the file is RAS (as NIfTI) or LPS (as ITK, DICOM and Slicer); the
column `kind` may be left out. A line is a comment if its first character is "#", so a kind that
begins so stands in quotes. In memory points are RAS millimetres, float64.
"""

import csv
import dataclasses
import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxreg.io.atomic import replacing
from jaxreg.io.comments import is_comment, note_points, write_rows
from jaxreg.io.labelled import SIGNS

_COLUMNS = tuple(f"{image}_{axis}" for image in ("fixed", "moving") for axis in "xyz")


@dataclasses.dataclass(frozen=True, eq=False)
class Landmarks:
    """Points of the fixed image and where the same anatomy lies in the moving image.

    Attributes:
        fixed: (N, 3), world millimetres, RAS.
        moving: (N, 3), row by row the same anatomy.
        kind: (N,), what each point is ("vessel", "keypoint"); "" in files without that column.
    """

    fixed: np.ndarray
    moving: np.ndarray
    kind: np.ndarray

    def __post_init__(self):
        """Checks and normalises the three arrays."""
        fixed, moving = (np.array(p, np.float64) for p in (self.fixed, self.moving))
        if fixed.ndim != 2 or fixed.shape[-1] != 3 or fixed.shape != moving.shape:
            raise ValueError(
                f"landmarks: expected the same points twice, (N, 3), got shapes {fixed.shape} "
                f"and {moving.shape}. Remove points that are missing in one image."
            )
        if not (np.all(np.isfinite(fixed)) and np.all(np.isfinite(moving))):
            raise ValueError(
                "landmarks: expected finite coordinates, got NaN or infinity. Remove those points."
            )
        kind = np.array(self.kind, str)
        if kind.shape != (len(fixed),):
            raise ValueError(
                f"kind: expected one entry for each of {len(fixed)} points, got shape "
                f"{kind.shape}. Repeat it if all points are alike."
            )
        for name, array in (("fixed", fixed), ("moving", moving), ("kind", kind)):
            array.flags.writeable = False
            object.__setattr__(self, name, array)


def read_landmarks(path: str | os.PathLike, *, space: str | None = None) -> Landmarks:
    """Returns the landmarks in a CSV file.

    Args:
        path: file as in the module docstring.
        space: "RAS" or "LPS" for a file that does not say; must agree with one that does.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no CSV text, other columns, no points, or a space that is not stated once.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"{path}: expected a CSV file, got no such file. Check the name.")
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected CSV text, got binary data. Check the name.") from error
    comments = [line for line in lines if is_comment(line)]
    signs = SIGNS[stated_space(path, comments, given=space)]
    numbered = [(i, x) for i, x in enumerate(lines, 1) if x.strip() and not is_comment(x)]
    header = [name.strip().lower() for name in numbered[0][1].split(",")] if numbered else []
    if sorted(set(header) - {"kind"}) != sorted(_COLUMNS) or len(set(header)) != len(header):
        raise ValueError(
            f"{path}: expected the columns {','.join(_COLUMNS)} and perhaps kind, got "
            f"'{','.join(header)[:200]}'. Name the columns in the first line."
        )
    note_points(path, comments, len(header), [header.index(name) for name in _COLUMNS])
    try:
        rows = list(csv.reader(text for _, text in numbered[1:]))
    except csv.Error as error:  # a field of more than 131072 characters, or a NUL
        raise ValueError(
            f"{path}: expected lines of {len(header)} values, got '{error}'. Correct the file."
        ) from error
    points = np.zeros((len(rows), 6))
    for k, row in enumerate(rows):
        try:
            values = dict(zip(header, row, strict=True))
            points[k] = [float(values[name]) for name in _COLUMNS]
        except ValueError as error:
            raise ValueError(
                f"{path}: expected {len(header)} values with six numbers, got "
                f"'{','.join(row)[:80]}' in line {numbered[k + 1][0]}. Correct or remove the line."
            ) from error
    if not rows:
        raise ValueError(f"{path}: expected landmarks, got none. Add a line for each point.")
    column = header.index("kind") if "kind" in header else None
    kind = np.array(["" if column is None else row[column].strip() for row in rows])
    try:
        return Landmarks(points[:, :3] * signs, points[:, 3:] * signs, kind)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def write_landmarks(path: str | os.PathLike, landmarks: Landmarks, *, space: str = "RAS") -> None:
    """Writes landmarks as CSV, in millimetres with three decimals.

    Args:
        path: file to write.
        landmarks: RAS mm.
        space: of the file, "RAS" or "LPS".

    Raises:
        OSError: the folder cannot be written.
        ValueError: another space.
    """
    text = io.StringIO()
    text.write(f"# space: {_known_space('space', space)}\n")
    points = np.concatenate([landmarks.fixed, landmarks.moving], axis=1)
    points = points * np.tile(SIGNS[space.upper()], 2)
    rows = zip(landmarks.kind, points, strict=True)
    write_rows(text, [("kind", *_COLUMNS)])
    write_rows(text, ((kind, *(f"{x:.3f}" for x in row)) for kind, row in rows))
    with replacing(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def write_trajectories(
    path: str | os.PathLike,
    phases: Sequence[str],
    positions: Sequence[np.ndarray],
    *,
    labels: Sequence[str] | None = None,
) -> None:
    """Writes where points are over time as CSV, one line a point and phase, RAS mm.

    Args:
        path: file to write.
        phases: names of the T phases.
        positions: (N, 3) in each phase, RAS mm.
        labels: of the points; their numbers if None.
    """
    labels = [str(number) for number in range(len(positions[0]))] if labels is None else labels
    text = io.StringIO()
    text.write("# space: RAS\n")
    write_rows(text, [("label", "phase", "x", "y", "z")])
    for number, label in enumerate(labels):
        for phase, points in zip(phases, positions, strict=True):
            write_rows(text, [(label, phase, *(f"{x:.3f}" for x in points[number]))])
    with replacing(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def space_of_pairs(path: str | os.PathLike) -> str | None:
    """Returns RAS or LPS for a CSV file of pairs of points, None for any other file."""
    path = Path(path)
    if path.suffix.lower() != ".csv" or not path.is_file():
        return None
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    header = next((line for line in lines if line.strip() and not is_comment(line)), "")
    if _COLUMNS[0] not in header.lower():
        return None
    return stated_space(path, [line for line in lines if is_comment(line)])


def stated_space(path: str | os.PathLike, comments: list[str], *, given: str | None = None) -> str:
    """RAS or LPS: what the file says, else what the caller says.

    Args:
        path: for messages.
        comments: lines of the file that begin with "#".
        given: RAS or LPS by the caller; must agree with the file.

    Returns:
        "RAS" or "LPS".

    Raises:
        ValueError: it is stated nowhere, or in two ways, or is neither RAS nor LPS.
    """
    notes = [comment.lstrip("# ").lower() for comment in comments]
    said = {note.removeprefix("space:").strip() for note in notes if note.startswith("space:")}
    stated = {_known_space(f"{path}: space", text) for text in said}
    if given is not None:
        stated.add(_known_space("space", given))
    if len(stated) != 1:
        raise ValueError(
            f"{path}: expected RAS or LPS to be stated once, got "
            f"{' and '.join(sorted(stated)) or 'no statement'}. Make the first line '# space: LPS' "
            "(ITK, DICOM, Slicer) or '# space: RAS' (NIfTI)."
        )
    return stated.pop()


def _known_space(name: str, text: str) -> str:
    if text.upper() not in SIGNS:
        raise ValueError(f"{name}: expected RAS or LPS, got '{text}'. Use one of the two.")
    return text.upper()

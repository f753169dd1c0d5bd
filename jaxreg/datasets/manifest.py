"""A user's own pairs: a JSON file with a list of objects.

    [
      {"id": "patient-1", "fixed": "1/insp.nii.gz", "moving": "1/exp.nii.gz",
       "fixed_mask": "1/insp_lungs.nii.gz", "landmarks": "1/points.csv"}
    ]

`fixed` and `moving` are required; see Pair for the rest. Paths are relative to the JSON file.
"""

import collections
import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxreg.geometry.volume import Volume
from jaxreg.io.documents import read_json
from jaxreg.io.images import read_grid, read_image, read_labels
from jaxreg.io.points import Landmarks, read_landmarks

_ON_GRID_OF = {
    "fixed_mask": "fixed",
    "moving_mask": "moving",
    "fixed_labels": "fixed",
    "moving_labels": "moving",
}
_POINTS = ("keypoints", "landmarks")


@dataclasses.dataclass(frozen=True)
class Pair:
    """Where the files of a pair are; they were there when it was made, masks over their images.

    Attributes:
        id: name in tables, unique in its manifest.
        fixed, moving: images.
        fixed_mask, moving_mask: lungs, nonzero inside.
        fixed_labels, moving_labels: lobes or lungs, whole numbers, 0 outside.
        keypoints: corresponding points to train with.
        landmarks: corresponding points to evaluate with.
        space: "RAS" or "LPS" for point files that do not say (see jaxreg.io.points).
    """

    id: str
    fixed: Path
    moving: Path
    fixed_mask: Path | None = None
    moving_mask: Path | None = None
    fixed_labels: Path | None = None
    moving_labels: Path | None = None
    keypoints: Path | None = None
    landmarks: Path | None = None
    space: str | None = None

    def load(self) -> "LoadedPair":
        """Returns the contents of all files."""
        contents: dict[str, Any] = {
            name: read_image(getattr(self, name)) for name in ("fixed", "moving")
        }
        for name, image in _ON_GRID_OF.items():
            path = getattr(self, name)
            grids = {other: contents[other].grid for other in ("fixed", "moving")}
            grid = grids.pop(image)
            contents[name] = None if path is None else read_labels(path, grid=grid, others=grids)
        for name in _POINTS:
            path = getattr(self, name)
            contents[name] = None if path is None else read_landmarks(path, space=self.space)
        return LoadedPair(self.id, **contents)


@dataclasses.dataclass(frozen=True, eq=False)
class LoadedPair:
    """The contents of a pair's files; None where the manifest has none. Attributes as in Pair."""

    id: str
    fixed: Volume
    moving: Volume
    fixed_mask: Volume | None
    moving_mask: Volume | None
    fixed_labels: Volume | None
    moving_labels: Volume | None
    keypoints: Landmarks | None
    landmarks: Landmarks | None


def read_manifest(path: str | os.PathLike) -> tuple[Pair, ...]:
    """Returns the pairs in a manifest.

    Headers of images and all points are read to check them; values of images are not.

    Raises:
        ValueError: lists everything that is wrong with the manifest and its files.
    """
    return _read(Path(path), _wrong_files)


def list_manifest(path: str | os.PathLike) -> tuple[Pair, ...]:
    """Returns the pairs in a manifest without a look at their files.

    Raises:
        ValueError: lists everything that is wrong with the manifest itself.
    """
    return _read(Path(path), lambda pair: [])


def _read(path: Path, wrong_files: Callable[[Pair], list[str]]) -> tuple[Pair, ...]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a manifest, got no such file. Check the name.")
    entries = read_json(path)
    if not isinstance(entries, list) or not entries:
        raise ValueError(
            f"{path}: expected a list of pairs, got {json.dumps(entries)[:40]}. "
            'Write [{"fixed": ..., "moving": ...}, ...].'
        )
    pairs, problems = [], []
    for number, entry in enumerate(entries, 1):
        name = f"pair {number}"
        if isinstance(entry, dict) and isinstance(entry.get("id"), str):
            name += f" ({entry['id']})"
        wrong = _wrong_keys(entry)
        if not wrong:
            pairs.append(_pair(path.parent, entry, number))
            wrong = wrong_files(pairs[-1])
        problems += [f"{name}: {text}" for text in wrong]
    counts = collections.Counter(pair.id for pair in pairs)
    problems += [
        f"id '{name}': expected unique ids, got it {n} times" for name, n in counts.items() if n > 1
    ]
    if problems:
        raise ValueError(
            f"{path}: expected {len(entries)} complete pairs, got {len(problems)} problems. Mend:\n"
            + "\n".join(f"- {text}" for text in problems)
        )
    return tuple(pairs)


def _wrong_keys(entry: Any) -> list[str]:
    """What is wrong with the entry itself."""
    if not isinstance(entry, dict):
        return [f"expected an object with fixed and moving, got {json.dumps(entry)}"]
    known = [field.name for field in dataclasses.fields(Pair)]
    wrong = [
        f"unknown key '{key}'; expected {', '.join(known)}" for key in entry if key not in known
    ]
    wrong += [f"'{key}' is missing" for key in ("fixed", "moving") if key not in entry]
    wrong += [
        f"{key}: expected text, got {json.dumps(value)}"
        for key, value in entry.items()
        if key in known and (not isinstance(value, str) or not value)
    ]
    if str(entry.get("space", "RAS")).upper() not in ("RAS", "LPS"):
        wrong.append(f"space: expected RAS or LPS, got {json.dumps(entry['space'])}")
    return wrong


def _pair(folder: Path, entry: dict[str, str], number: int) -> Pair:
    paths = {key: folder / value for key, value in entry.items() if key not in ("id", "space")}
    return Pair(id=entry.get("id", f"pair-{number}"), space=entry.get("space"), **paths)


def _wrong_files(pair: Pair) -> list[str]:
    """What is wrong with the files: missing, unreadable, beside their image, bad points."""
    wrong, grids = [], {}
    for name in ("fixed", "moving", *_ON_GRID_OF):
        path = getattr(pair, name)
        if path is None:
            continue
        try:
            grids[name] = read_grid(path)
            image = _ON_GRID_OF.get(name)
            if image in grids and not grids[image].overlaps(grids[name]):
                wrong.append(
                    f"{image} and {name}: expected files that overlap, got {grids[image]} and "
                    f"{grids[name]}"
                )
        except (OSError, ValueError, ImportError) as error:
            wrong.append(f"{name}: {error}")
    for name in _POINTS:
        path = getattr(pair, name)
        if path is not None:
            try:
                read_landmarks(path, space=pair.space)
            except (OSError, ValueError) as error:
                wrong.append(f"{name}: {error}")
    return wrong

"""Which scan an image is, in words that name no patient: file or folder, date, series."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple


class Source(NamedTuple):
    """Where an image comes from.

    Attributes:
        name: of its file or folder, without the folders above.
        study_date: of a DICOM study, YYYY-MM-DD; None where there is none, as the others.
        series_number: of a DICOM series.
        series_description: of a DICOM series.
    """

    name: str
    study_date: str | None = None
    series_number: str | None = None
    series_description: str | None = None

    def told(self) -> dict[str, str]:
        """Returns what is known, for a summary."""
        return {key: value for key, value in self._asdict().items() if value}


def name_of(path: str | os.PathLike, *, folders: int = 0) -> str:
    """The name of a file or folder.

    Args:
        path: of it.
        folders: how many of the folders above it are named too.

    Returns:
        The name, in characters that can be written.
    """
    parts = Path(os.path.abspath(path)).parts[-1 - folders :]
    return "/".join(parts).encode("utf-8", "replace").decode("utf-8")


def told_apart(sources: Sequence[Source], paths: Sequence[Path]) -> list[Source]:
    """Sources with as many of the folders above in their names as it takes to tell them apart.

    Args:
        sources: of two images.
        paths: of their files or folders.

    Returns:
        The sources; as they are where names or dates differ, or where the path is one.
    """
    if len({(source.name, source.study_date) for source in sources}) > 1:
        return list(sources)
    most = max(len(Path(os.path.abspath(path)).parts) for path in paths) - 1
    for folders in range(1, most):
        names = [name_of(path, folders=folders) for path in paths]
        if len(set(names)) > 1:
            pairs = zip(sources, names, strict=True)
            return [source._replace(name=name) for source, name in pairs]
    return list(sources)


def described(images: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Which scan each image is, in words.

    Args:
        images: what `Source.told` gave, by "fixed" and "moving".

    Returns:
        Such as "visit_2026 (study of 2026-01-10)"; the series too where the rest is the same.
    """
    briefly = {side: _words(told, series=False) for side, told in images.items()}
    if len(set(briefly.values())) > 1:
        return briefly
    return {side: _words(told, series=True) for side, told in images.items()}


def _words(told: Mapping[str, str], *, series: bool) -> str:
    date, number = told.get("study_date"), told.get("series_number")
    text = told.get("series_description")
    more = [f"study of {date}"] if date else []
    if series and (number or text):
        more.append(" ".join(["series", *([number] if number else []), *([text] if text else [])]))
    return told.get("name", "?") + (f" ({', '.join(more)})" if more else "")

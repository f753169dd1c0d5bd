"""The phases of a series: several images, one 4-D NIfTI file, or a DICOM folder with a 4DCT."""

import os
from collections.abc import Sequence
from pathlib import Path

from jaxreg.geometry.volume import Volume
from jaxreg.io import nifti
from jaxreg.io.dicom_phases import read_phases
from jaxreg.io.images import read_image


def read_series(paths: Sequence[str | os.PathLike]) -> tuple[list[Volume], list[str]]:
    """Returns the phases in the order of time, and their names.

    Args:
        paths: of two or more images, in the order of time; or one path of a 4-D NIfTI file or of a
            DICOM folder, whose phases are sorted by their headers.

    Raises:
        FileNotFoundError: no such file.
        ValueError: fewer than two phases, or a file that cannot be read.
    """
    if len(paths) == 1:
        path = Path(paths[0])
        if path.is_dir():
            return read_phases(path)
        frames = nifti.read_frames(path)
        return frames, [f"{index:02d}" for index in range(len(frames))]
    return [read_image(path) for path in paths], _names([Path(path) for path in paths])


def _names(paths: Sequence[Path]) -> list[str]:
    """Names of files without endings, or of what differs: the folder; else numbers."""
    stems = [path.name.split(".")[0] or path.name for path in paths]
    for names in (stems, [path.parent.name for path in paths]):
        if len(set(names)) == len(names):
            return names
    return [f"{index:02d}" for index in range(len(paths))]

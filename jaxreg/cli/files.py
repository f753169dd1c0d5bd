"""What commands read, and where they may write."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from jaxreg.cli import session

if TYPE_CHECKING:
    from jaxreg.config import RegistrationConfig
    from jaxreg.geometry.volume import Volume
    from jaxreg.io.source import Source
    from jaxreg.pipeline.result import Registration


def prepare_folder(folder: Path) -> None:
    """Makes a folder for results, so that one that cannot be written fails before the work.

    Raises:
        OSError: it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"--out: expected a folder that can be written, got {folder} ({error.strerror}). "
            "Choose another folder."
        ) from error
    if not os.access(folder, os.W_OK):
        raise OSError(
            f"--out: expected a folder that can be written, got {folder}. Choose another folder."
        )


def prepare_file(
    out: Path,
    inputs: Sequence[Path | None],
    *,
    endings: Sequence[str] = (".nii.gz", ".nii"),
) -> None:
    """Checks the name of a file to write, and makes its folder, before the work.

    Args:
        out: file to write.
        inputs: files that the command reads, None where an option is not given.
        endings: that the name may have, in lower case.

    Raises:
        OSError: the folder cannot be made or written.
        ValueError: a folder, another ending, or a file that the command reads.
    """
    if out.is_dir():
        raise ValueError(f"--out: expected a file name, got the folder {out}. Name a file in it.")
    if not out.name.lower().endswith(tuple(endings)):
        raise ValueError(
            f"--out: expected a name ending in {' or '.join(endings)}, got {out}. Rename it."
        )
    for path in inputs:
        if path is not None and out.exists() and path.exists() and out.samefile(path):
            raise ValueError(
                f"--out: expected another file than the input, got {out}. Choose another name."
            )
    prepare_folder(out.parent)


class PairFiles(NamedTuple):
    """The files of a pair, as a command names them (`jaxreg.cli.options.pair`).

    Attributes:
        fixed: image file or DICOM folder.
        moving: image file or DICOM folder.
        fixed_mask: label file, brought to the grid of the fixed image; None without one.
        moving_mask: label file, brought to the grid of the moving image; None without one.
        series: DICOM series of both folders, or of each, with a comma between; None if not needed.
        orientation: of files that do not say it, three letters; None if all do.
    """

    fixed: Path
    moving: Path
    fixed_mask: Path | None = None
    moving_mask: Path | None = None
    series: str | None = None
    orientation: str | None = None

    def images(self) -> list[tuple[Path, str | None]]:
        """The fixed and the moving image, each with its DICOM series."""
        first, comma, second = (self.series or "").partition(",")
        both = (self.fixed, first), (self.moving, second if comma else first)
        return [(path, number.strip() or None) for path, number in both]


class InputPair(NamedTuple):
    """The images that a command names, and their masks, None where it names none."""

    fixed: "Volume"
    moving: "Volume"
    fixed_mask: "Volume | None"
    moving_mask: "Volume | None"


def read_pair(files: PairFiles, *, in_half: bool = False) -> InputPair:
    """Reads the images that a command names, and their masks.

    Args:
        files: that are named.
        in_half: whether images may be integers, in half of the memory
            (`jaxreg.geometry.volume.compact`).

    Returns:
        The images and masks; None for a mask that is not named.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, is no image, or holds several series.
    """
    return _read_pair(files, in_half=in_half)[0]


def _read_pair(files: PairFiles, *, in_half: bool) -> "tuple[InputPair, list[Source]]":
    """The images and masks that a command names, and which scans the images are."""
    from jaxreg.geometry.volume import compact
    from jaxreg.io.images import read_image_of, read_labels
    from jaxreg.io.source import told_apart

    stated = files.orientation

    def image(path: Path, series: str | None) -> "tuple[Volume, Source]":
        found, source = read_image_of(path, series=series, orientation=stated)
        return (compact(found) if in_half else found), source

    read = [image(path, series) for path, series in files.images()]
    images = [found for found, _ in read]
    named = files.fixed_mask, files.moving_mask
    masks = [
        read_labels(path, grid=image.grid, others={other: grid}, orientation=stated)
        if path
        else None
        for path, image, other, grid in zip(
            named, images, ("moving", "fixed"), [image.grid for image in images[::-1]], strict=True
        )
    ]
    sources = told_apart([source for _, source in read], files[:2])
    return InputPair(*images, *masks), sources


def register_files(
    files: PairFiles,
    *,
    settings: "RegistrationConfig",
    stage: Callable[[str], None] = lambda name: None,
) -> "tuple[Registration, int]":
    """Reads a pair and registers it.

    Args:
        files: of the pair; masks are found where none is named.
        settings: of the registration.
        stage: called with the name of each stage as it begins.

    Returns:
        The registration, whose summary says which scans were registered ("images"), and how many
        of its warnings are about the files; they come first.
    """
    from jaxreg.pipeline.registration import register_volumes
    from jaxreg.trust.findings import Finding

    stage("reading")
    with session.collected() as noted:
        images, sources = _read_pair(files, in_half=True)
    result = register_volumes(
        images.fixed,
        images.moving,
        fixed_mask=images.fixed_mask,
        moving_mask=images.moving_mask,
        config=settings,
        notes=[Finding(note.code, note.text) for note in noted],
        progress=stage,
    )
    told = [source.told() for source in sources]
    result.summary["images"] = dict(zip(("fixed", "moving"), told, strict=True))
    return result, len(noted)

"""What commands read, and where they may write."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from jaxreg.geometry.volume import Volume


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


class InputPair(NamedTuple):
    """The images that a command names, and their masks, None where it names none."""

    fixed: "Volume"
    moving: "Volume"
    fixed_mask: "Volume | None"
    moving_mask: "Volume | None"


def read_pair(
    fixed: Path,
    moving: Path,
    fixed_mask: Path | None,
    moving_mask: Path | None,
    series: str | None,
) -> InputPair:
    """The images that a command names, and their masks, None where it names none.

    Masks come to the grids of their images. `series` is that of both DICOM folders, or of each,
    with a comma between.

    """
    from jaxreg.io.images import read_image, read_labels

    first, comma, second = (series or "").partition(",")
    images = [
        read_image(path, series=number.strip() or None)
        for path, number in ((fixed, first), (moving, second if comma else first))
    ]
    masks = [
        read_labels(path, grid=image.grid) if path else None
        for path, image in zip((fixed_mask, moving_mask), images, strict=True)
    ]
    return InputPair(*images, *masks)

"""When the scans of a pair were taken."""

from typing import TYPE_CHECKING

from jaxreg.cli.files import PairFiles

if TYPE_CHECKING:
    from datetime import date


def study_dates(files: PairFiles) -> "tuple[date, date] | None":
    """The dates of both studies.

    Args:
        files: of the pair.

    Returns:
        That of the fixed and that of the moving one; None where they are not both DICOM with dates.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: as `jaxreg.read_image`.
    """
    from jaxreg.io.images import read_date

    fixed, moving = (read_date(path, series=series) for path, series in files.images())
    return None if fixed is None or moving is None else (fixed, moving)

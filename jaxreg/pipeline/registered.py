"""A registered pair on the grid of the fixed image: of a registration, or of a saved folder."""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxreg.geometry.grid import Grid
from jaxreg.geometry.volume import Volume, require_same_grid
from jaxreg.io.documents import read_json
from jaxreg.io.nifti import read_volume
from jaxreg.pipeline.assess import MEASURED
from jaxreg.pipeline.recorded import require_same_correlation
from jaxreg.pipeline.result import Registration, correlation, require_registered_grid

_SAMPLED, _FEWEST = 7, 1000  # voxels of which a correlation is taken: one in seven, at least
_INPUTS = ("warped.nii.gz", "jacobian.nii.gz", "valid.nii.gz", "summary.json")


@dataclasses.dataclass(frozen=True, eq=False)
class RegisteredPair:
    """What measures on the images need of a registration, all on the grid of the fixed image.

    Attributes:
        fixed: HU.
        warped: moving image through the registration, HU.
        determinant: of the Jacobian, fixed to moving.
        valid: 1 where both images show lung, 2 in the other lungs of the fixed image, 0 elsewhere.
        warnings: of the registration.
        moving_grid: of the moving image; None where it is not known.
        dates: of the studies of the fixed and of the moving image; None where they are not known.
    """

    fixed: Volume
    warped: Volume
    determinant: Volume
    valid: Volume
    warnings: Sequence[Mapping[str, Any]] = ()
    moving_grid: Grid | None = None
    dates: tuple[datetime.date, datetime.date] | None = None


def registered_pair(registration: Registration) -> RegisteredPair:
    """What measures on the images need of a registration.

    Args:
        registration: with `valid`.

    Returns:
        The pair.

    Raises:
        ValueError: the registration has no `valid`.
    """
    if registration.valid is None:
        raise ValueError(
            "registration: expected one with `valid`, got None. Register, or use "
            "jaxreg.pipeline.judge.registration_of_field."
        )
    return RegisteredPair(
        registration.fixed,
        registration.warp(),
        registration.jacobian_determinant(),
        registration.valid,
        registration.warnings,
        registration.moving.grid,
        _dates(registration.summary),
    )


def read_registered_pair(folder: Path, fixed: Volume) -> RegisteredPair:
    """The same from a folder that `Registration.save` wrote, without the moving image.

    Args:
        folder: with warped.nii.gz, jacobian.nii.gz, valid.nii.gz and summary.json.
        fixed: HU, as it was registered.

    Returns:
        The pair.

    Raises:
        OSError: a file is not there.
        ValueError: the image is on another grid than the one that was registered.
    """
    require_result(folder)
    summary = read_json(folder / "summary.json")
    if not (isinstance(summary, dict) and {"fixed_grid", "correlation_after"} <= set(summary)):
        raise ValueError(
            f"{folder / 'summary.json'}: expected the summary of a registration, got another file. "
            "Register anew."
        )
    require_registered_grid(fixed, "fixed", summary)
    images = [
        Volume(read_volume(folder / f"{name}.nii.gz").data, fixed.affine)
        for name in ("warped", "jacobian", "valid")
    ]
    for image, name in zip(images, _INPUTS, strict=False):
        require_same_grid(fixed, image, ("fixed", name))
    moving_grid = Grid.from_document(summary.get("moving_grid"))
    warnings = summary.get("warnings", ())
    warped, determinant, valid = images
    pair = RegisteredPair(fixed, warped, determinant, valid, warnings, moving_grid, _dates(summary))
    _require_registered(pair, summary["correlation_after"])
    return pair


def _dates(summary: Mapping[str, Any]) -> tuple[datetime.date, datetime.date] | None:
    """The dates of both studies, where the command that registered them wrote them down."""
    images = summary.get("images") or {}
    told = [images.get(name, {}).get("study_date") for name in ("fixed", "moving")]
    if not all(told):
        return None
    fixed, moving = (datetime.date.fromisoformat(date) for date in told)
    return fixed, moving


def _require_registered(pair: RegisteredPair, registered: float) -> None:
    """Refuses another image than the registered one on the same grid, such as another phase."""
    measured = np.flatnonzero(pair.valid.data == MEASURED)[::_SAMPLED]
    if len(measured) < _FEWEST:
        return
    values, warped = (volume.data.reshape(-1)[measured] for volume in (pair.fixed, pair.warped))
    require_same_correlation(correlation(values, warped), registered, "fixed")


def require_result(folder: Path) -> None:
    """Raises FileNotFoundError unless a folder has the files of a registration."""
    missing = [name for name in _INPUTS if not (folder / name).is_file()]
    if missing:
        found = f"one without {', '.join(missing)}" if folder.is_dir() else "no folder"
        raise FileNotFoundError(
            f"{folder}: expected a folder that jaxreg register wrote, got {found}. Give such a "
            "folder, or two images, FIXED and MOVING."
        )

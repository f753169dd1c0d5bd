"""`jaxreg export`: a field as a transform file of ITK, or as DICOM in the fixed patient's study."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jaxreg.cli import options
from jaxreg.cli.compilation import keep_compiled_programs
from jaxreg.cli.files import prepare_file, prepare_folder
from jaxreg.cli.progress import Stage, stages

if TYPE_CHECKING:
    from jaxreg.geometry.volume import DisplacementField
    from jaxreg.io.dicom_series import Series

_AIR_HU = -1024.0


@click.command("export")
@click.argument("field", metavar="DIR | FIELD", type=options.FIELD)
@click.option("--itk", type=options.FILE, help="Transform file to write, .tfm or .h5.")
@click.option("--dicom", type=options.FILE, help="Folder to write DICOM into.")
@click.option("--fixed", type=options.FILE, help="With --dicom: the DICOM series of FIXED.")
@click.option("--moving", type=options.FILE, help="With --dicom: the DICOM series of MOVING.")
@click.option(
    "--series",
    help="DICOM series in the folders: its number or the end of its UID; or FIXED's and MOVING's, "
    "with a comma between.",
)
@options.as_json
@options.quiet
def command(
    field: Path,
    itk: Path | None,
    dicom: Path | None,
    fixed: Path | None,
    moving: Path | None,
    series: str | None,
    as_json: bool,
    quiet: bool | None,
) -> int:
    """Export a registration to other programs.

    DIR is a folder of jaxreg register, FIELD a field of any tool. --itk writes an affine map and a
    field, which SimpleITK.ReadTransform, ANTs and Slicer load. --dicom writes the warped image as a
    CT series of the fixed patient's study, and a Deformable Spatial Registration object.

    \b
    Example:
      jaxreg export DIR --itk fixed_to_moving.h5
      jaxreg export DIR --dicom OUT --fixed FIXED_DICOM --moving MOVING_DICOM
    \f
    Returns:
        Exit status.
    """
    from jaxreg.io.images import read_displacement
    from jaxreg.io.itk_transform import ENDINGS, write_transform

    if itk is None and dicom is None:
        raise ValueError("expected --itk FILE or --dicom FOLDER, got none. Say what to write.")
    if (dicom is None) != (fixed is None) or (fixed is None) != (moving is None):
        raise ValueError(
            "--dicom, --fixed, --moving: expected all three or none. Give both DICOM series, whose "
            "study and frames of reference are needed."
        )
    if itk is not None:
        prepare_file(itk, (field,), endings=ENDINGS)
    if dicom is not None:
        prepare_folder(dicom)
    written: list[str] = []
    with stages(quiet=quiet) as stage:
        stage("reading")
        found = read_displacement(field)
        if itk is not None:
            stage("writing the transform")
            write_transform(itk, found)
            written.append(str(itk))
        if dicom is not None and fixed is not None and moving is not None:
            written += _write_dicom(dicom, field, found, fixed, moving, series, stage)
    if as_json:
        click.echo(json.dumps({"written": written}, indent=2))
    else:
        words = written if len(written) < 3 else [written[0], "...", written[-1]]
        files = "1 file" if len(written) == 1 else f"{len(written)} files"
        click.echo(f"{files} written: {', '.join(words)}")
    return 0


def _write_dicom(
    folder: Path,
    path: Path,
    field: "DisplacementField",
    fixed: Path,
    moving: Path,
    series: str | None,
    stage: Stage,
) -> list[str]:
    """Paths of the files written."""
    from jaxreg.geometry.warping import warp_volume
    from jaxreg.io.dicom import is_dicom
    from jaxreg.io.dicom_series import read_series
    from jaxreg.io.dicom_writer import write_dicom
    from jaxreg.io.images import read_image
    from jaxreg.pipeline.recorded import record_of, require_registered_images

    first, comma, second = (series or "").partition(",")
    numbers = first.strip() or None, (second if comma else first).strip() or None
    for name, given in (("--fixed", fixed), ("--moving", moving)):
        if given.is_file() and not is_dicom(given):
            raise ValueError(
                f"{name}: expected a DICOM folder or file, got {given}. Give the series that was "
                "registered; a NIfTI file has no study."
            )
    keep_compiled_programs()
    record = record_of(path)
    headers = [read_series(p, series=n) for p, n in zip((fixed, moving), numbers, strict=True)]
    _require_pair(headers, field, record)
    grid = headers[0].grid
    stage("warping")
    image = read_image(moving, series=numbers[1])
    if record is not None:
        target = read_image(fixed, series=numbers[0])
        require_registered_images(path.parent, field, target, image, record)
    on_fixed = field if grid.matches(field.grid) else field.on_grid(grid)
    warped = warp_volume(image, on_fixed, fill=_AIR_HU)
    stage("writing DICOM")
    return [str(folder / name) for name in write_dicom(folder, field, warped, *headers)]


def _require_pair(
    series: "Sequence[Series]", field: "DisplacementField", record: "Mapping[str, Any] | None"
) -> None:
    """Refuses series that the field is not from, as far as headers tell."""
    from jaxreg.pipeline.recorded import SIDES, require_side

    fixed, moving = series
    if fixed.header.SeriesInstanceUID == moving.header.SeriesInstanceUID:
        raise ValueError(
            "--fixed, --moving: expected two series, got the same one twice. Give both series that "
            "were registered."
        )
    if record is not None:
        for side, item in zip(SIDES, series, strict=True):
            require_side(item.grid, side, record)
    if not fixed.grid.overlaps(field.grid):
        raise ValueError(
            f"--fixed: expected the series that was registered, where the field is, got "
            f"{fixed.grid} beside {field.grid}. Give that series."
        )

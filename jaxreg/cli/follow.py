"""`jaxreg follow`: lesions of today found in an earlier scan, and how they changed."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from jaxreg.cli import options, session
from jaxreg.cli.compilation import keep_compiled_programs
from jaxreg.cli.dates import study_dates
from jaxreg.cli.files import PairFiles, prepare_folder, read_pair
from jaxreg.cli.progress import Stage, stages

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    from jaxreg.config import RegistrationConfig
    from jaxreg.geometry.grid import Grid
    from jaxreg.io.lesions import MarkedLesions
    from jaxreg.pipeline.follow_result import FollowUp
    from jaxreg.pipeline.result import Registration

_MOST_DAYS = 40_000


@click.command("follow")
@options.pair
@click.option(
    "--lesions",
    type=options.FILE,
    help="Lesions of FIXED: a label map, or points (.csv, .fcsv, .mrk.json).",
)
@options.folder
@click.option(
    "--moving-lesions",
    type=options.FILE,
    help="Lesions of MOVING, the same way. Beside --lesions, those without a partner are told; "
    "alone, they are looked for in FIXED.",
)
@click.option(
    "--days",
    type=float,
    help="Days from MOVING to FIXED, for doubling times; by the study dates if both are DICOM.",
)
@options.given_field
@options.settings
@options.strict
@options.as_json
@options.quiet
def command(
    files: PairFiles,
    lesions: Path | None,
    out: Path,
    moving_lesions: Path | None,
    days: float | None,
    field: Path | None,
    registering: options.Registering,
    strict: bool,
    as_json: bool,
    quiet: bool | None,
) -> int:
    """Find lesions of today's scan in an earlier one, and measure both.

    FIXED is today's CT, MOVING the earlier one; the lesions are marked in one of them or in both.
    Registers them with the lesions cut out, delineates each lesion in both by one method, and
    writes volumes, doubling times and the volume change of the lung around (CSV, JSON), label maps,
    and a picture with three cuts a lesion.

    \b
    Example:
      jaxreg follow today.nii.gz earlier.nii.gz --lesions today.fcsv --days 92 --out OUT
    \f
    Returns:
        Exit status.
    """
    if days is not None and not 0 < abs(days) <= _MOST_DAYS:
        raise ValueError(f"--days: expected 1 to {_MOST_DAYS}, got {days:g}. Correct it.")
    if lesions is None and moving_lesions is None:
        raise ValueError(
            "--lesions: expected lesions of FIXED, or those of MOVING by --moving-lesions, got "
            "none. Give one of them at least."
        )
    settings = registering.settings()
    prepare_folder(out)
    keep_compiled_programs()
    with stages(quiet=quiet) as stage:
        dates = study_dates(files) if days is None else None
        marked = _Marked(lesions, moving_lesions, days, dates)
        found, registration, noted = _followed(files, marked, field, settings, stage)
        stage("writing")
        if field is None:
            registration.save(out)
        found.save(out)
    for warning in found.summary["warnings"][noted:]:  # those of files were shown at once
        click.echo(f"warning: {warning['text']}", err=True)
    if as_json:
        click.echo(json.dumps(found.document(), indent=2))
    else:
        click.echo(_table(found))
        click.echo(f"written to {out}: look at follow.png")
    return options.WARNED if strict and found.summary["warnings"] else 0


class _Marked(NamedTuple):
    """Files of the lesions in both images, and when these were taken."""

    fixed: Path | None
    moving: Path | None
    days: float | None
    dates: "tuple[date, date] | None"


def _followed(
    files: PairFiles,
    marked: _Marked,
    field: Path | None,
    settings: "RegistrationConfig",
    stage: Stage,
) -> "tuple[FollowUp, Registration, int]":
    """Reads and follows; also returns how many of the warnings are about the files."""
    from jaxreg.io.images import read_displacement
    from jaxreg.pipeline.follow import follow
    from jaxreg.trust.findings import Finding

    stage("reading")
    with session.collected() as noted:
        pair = read_pair(files)
        grids = {"fixed": pair.fixed.grid, "moving": pair.moving.grid}
        lesions = _lesions(marked.fixed, "fixed", grids)
        others = _lesions(marked.moving, "moving", grids)
        given = read_displacement(field) if field else None
    found, registration = follow(
        pair.fixed,
        pair.moving,
        lesions,
        moving_lesions=others,
        fixed_mask=pair.fixed_mask,
        moving_mask=pair.moving_mask,
        field=given,
        days=marked.days,
        dates=marked.dates,
        config=settings,
        notes=[Finding(note.code, note.text) for note in noted],
        progress=stage,
    )
    return found, registration, len(noted)


def _lesions(path: Path | None, image: str, grids: "Mapping[str, Grid]") -> "MarkedLesions | None":
    """Lesions of one of the images, whose grids are given by their names; None without a file."""
    from jaxreg.io.lesions import read_lesions

    if path is None:
        return None
    others = {name: grid for name, grid in grids.items() if name != image}
    return read_lesions(path, grids[image], others=others)


def _table(found: "FollowUp") -> str:
    """The most important columns, as text."""
    head = ("status", "change", "fixed, ml", "moving, ml", "doubling, days", "apart, mm")
    lines = [found.line(), f"{'lesion':16}" + "".join(f"{word:>15}" for word in head) + "  remark"]
    for row in found.rows():
        values = (
            row["status"],
            row["change"] or "-",
            _number(row["fixed_ml"], ".3g"),
            _number(row["moving_ml"], ".3g"),
            _number(row["doubling_days"], ".0f"),
            _number(row["apart_mm"], ".1f"),
        )
        text = f"{row['lesion'][:16]:16}" + "".join(f"{value:>15}" for value in values)
        lines.append(f"{text}  {row['remark']}".rstrip())
    return "\n".join(lines)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)

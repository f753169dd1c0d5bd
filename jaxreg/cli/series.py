"""`jaxreg series`: phases of a respiratory cycle registered to one phase or the mean."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from jaxreg.cli import options, session
from jaxreg.cli.compilation import keep_compiled_programs
from jaxreg.cli.files import prepare_folder
from jaxreg.cli.progress import stages

if TYPE_CHECKING:
    from jaxreg.geometry.volume import Volume


class _Reference(click.ParamType):
    """A number of a phase, or "mean"."""

    name = "N|mean"

    def convert(self, value, param, ctx) -> int | Literal["mean"]:
        if value == "mean" or isinstance(value, int):
            return value
        try:
            return int(value)
        except ValueError:
            self.fail(f"expected the number of a phase, from 0, or mean, got {value!r}", param, ctx)


@click.command("series")
@click.argument("phases", nargs=-1, required=True, type=options.FILE)
@click.option(
    "--reference",
    type=_Reference(),
    default=0,
    show_default=True,
    help="Number of the phase that the others are registered to, from 0 in the order of time; or "
    "mean, the mean position of each point.",
)
@options.folder
@click.option(
    "--masks",
    type=options.FILE,
    multiple=True,
    help="Lungs of a phase; one for each, in their order. Found if not given.",
)
@click.option(
    "--points",
    type=options.FILE,
    help="Points of the reference (.csv, .fcsv, .mrk.json), to follow through all phases.",
)
@click.option("--no-cycle", is_flag=True, help="The last phase is not followed by the first.")
@options.given_settings
@options.strict
@options.as_json
@options.quiet
def command(
    phases: tuple[Path, ...],
    reference: int | Literal["mean"],
    out: Path,
    masks: tuple[Path, ...],
    points: Path | None,
    no_cycle: bool,
    registering: options.Registering,
    strict: bool,
    as_json: bool,
    quiet: bool | None,
) -> int:
    """Register the phases of a respiratory cycle (4DCT) to one of them.

    PHASES are images in the order of time, or one 4-D NIfTI file, or a DICOM folder whose series
    say which phase they are. All must lie in one world, as the phases of one scan do.

    \b
    Example:
      jaxreg series phase_*.nii.gz --reference mean --points nodules.fcsv --out DIR
    \f
    Returns:
        Exit status.
    """
    from jaxreg.config import override
    from jaxreg.io.point_lists import read_points
    from jaxreg.io.series import read_series
    from jaxreg.pipeline.series import register_series
    from jaxreg.trust.findings import Finding

    keep_compiled_programs()
    prepare_folder(out)
    if points is not None and reference == "mean":
        raise ValueError(
            "--points: expected points of a phase, got --reference mean, an image that is yet to "
            "be made. Name the phase in which the points lie."
        )
    settings = registering.settings()
    if no_cycle:
        settings = override(settings, "series.cyclic=false")
    given = None if points is None else read_points(points)
    with stages(quiet=quiet) as stage:
        stage("reading")
        with session.collected() as noted:
            images, names = read_series(phases)
            lungs = _lungs(masks, images) if masks else None
        result = register_series(
            images,
            reference=reference,
            masks=lungs,
            names=names,
            config=settings,
            notes=[Finding(note.code, note.text) for note in noted],
            progress=stage,
        )
        summary = result.save(
            out,
            points=None if given is None else given.points,
            labels=None if given is None else _labels(given.labels),
            progress=stage,
        )
    for warning in summary["warnings"][len(noted) :]:  # those of files were shown at once
        click.echo(f"warning: phase {warning['phase']}: {warning['text']}", err=True)
    if as_json:
        click.echo(json.dumps(summary, indent=2))
    else:
        click.echo("\n".join(_lines(summary)))
        click.echo(f"written to {out}: look at series.html")
    return options.WARNED if strict and summary["warnings"] else 0


def _labels(labels: tuple[str, ...]) -> list[str]:
    return [label or str(number) for number, label in enumerate(labels)]


def _lungs(masks: tuple[Path, ...], images: "Sequence[Volume]") -> "list[Volume]":
    """The masks of the phases, on their grids."""
    from jaxreg.io.images import read_labels

    if len(masks) != len(images):
        raise ValueError(
            f"--masks: expected {len(images)}, one a phase, got {len(masks)}. Repeat --masks for "
            "each."
        )
    return [read_labels(path, grid=image.grid) for path, image in zip(masks, images, strict=True)]


def _lines(summary: dict[str, Any]) -> list[str]:
    """One line a phase."""
    lines = []
    for row in summary["phases"]:
        text = f"phase {row['name']}: lungs {row['lungs_ml']:.0f} ml"
        if "folder" in row:
            text += (
                f", mean motion {row['motion_mm']:.2f} mm, correlation in the lungs "
                f"{row['correlation_before']:.3f} before, {row['correlation_after']:.3f} after"
            )
        else:
            text += ", the reference"
        lines.append(text)
    return lines

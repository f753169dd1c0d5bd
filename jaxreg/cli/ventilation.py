"""`jaxreg ventilation`: local change of volume and of air between two respiratory states."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from jaxreg.cli import options, session
from jaxreg.cli.compilation import keep_compiled_programs
from jaxreg.cli.dates import study_dates
from jaxreg.cli.files import PairFiles, prepare_folder, read_pair, register_files
from jaxreg.cli.progress import Stage, stages
from jaxreg.config import RegistrationConfig, VentilationConfig
from jaxreg.config.ventilation import KERNELS

if TYPE_CHECKING:
    from jaxreg.geometry.volume import Volume
    from jaxreg.pipeline.registered import RegisteredPair
    from jaxreg.pipeline.ventilation import Ventilation

_DEFAULT = VentilationConfig()
_SUMMARY = "summary.json"


@click.command("ventilation")
@click.argument("inputs", type=options.FILE, nargs=-1, required=True, metavar="DIR | FIXED MOVING")
@options.folder
@click.option("--fixed", type=options.FILE, help="With DIR: the fixed image that was registered.")
@options.given_field
@click.option("--labels", type=options.FILE, help="Lobes or other labels of FIXED: a row each.")
@click.option(
    "--inhale",
    type=click.Choice(["fixed", "moving"]),
    help="The inhaled image; the one in which the lungs are larger if not given.",
)
@click.option(
    "--smoothing",
    type=float,
    default=_DEFAULT.smoothing_mm,
    show_default=True,
    help="Neighbourhood, mm: full width at half maximum, or edge of the box; 0: none.",
)
@click.option("--kernel", type=click.Choice(KERNELS), default=_DEFAULT.kernel, show_default=True)
@click.option(
    "--no-mass-correction", is_flag=True, help="HU measures without scaling to one tissue mass."
)
@options.pair_options
@options.settings
@options.strict
@options.as_json
@options.quiet
def command(
    inputs: tuple[Path, ...],
    out: Path,
    fixed: Path | None,
    fixed_mask: Path | None,
    moving_mask: Path | None,
    series: str | None,
    orientation: str | None,
    field: Path | None,
    labels: Path | None,
    inhale: Literal["fixed", "moving"] | None,
    smoothing: float,
    kernel: str,
    no_mass_correction: bool,
    strict: bool,
    as_json: bool,
    quiet: bool | None,
    registering: options.Registering,
) -> int:
    """Map ventilation: local change of volume and of air.

    DIR is a folder of jaxreg register; two images are registered first. Writes maps on the grid of
    the fixed image, by the Jacobian and by HU, a table by lungs, thirds of their height and labels
    (CSV, JSON), and a picture. Positive where the lung takes up air on inhalation, relative to the
    exhaled state; 0 where nothing was measured.

    \b
    Example:
      jaxreg ventilation DIR --fixed FIXED --out OUT
      jaxreg ventilation FIXED MOVING --out OUT
    \f
    Returns:
        Exit status.
    """
    from jaxreg.pipeline.ventilation import ventilation

    settings = VentilationConfig(
        kernel=kernel, smoothing_mm=smoothing, mass_correction=not no_mass_correction
    )
    how = {"fixed_mask": fixed_mask, "moving_mask": moving_mask, "field": field}
    _check(inputs, fixed, how | vars(registering))
    prepare_folder(out)
    keep_compiled_programs()
    with stages(quiet=quiet) as stage, session.collected() as noted:
        stage("reading")
        if len(inputs) == 1:
            pair = _read(inputs[0], fixed, series, orientation)
        else:
            first, second = inputs
            files = PairFiles(first, second, fixed_mask, moving_mask, series, orientation)
            pair = _register(files, field, out, registering.settings(), stage)
            pair = dataclasses.replace(pair, dates=study_dates(files))
        regions = _labels(labels, pair, orientation)
        stage("ventilation")
        found = ventilation(pair, labels=regions, inhale=inhale, config=settings)
        stage("writing")
        found.save(out)
    for warning in found.warnings:
        click.echo(f"warning: {warning.text}", err=True)
    if as_json:
        click.echo(json.dumps(found.document(), indent=2))
    else:
        click.echo("\n".join(found.lines()))
        click.echo(_table(found))
        click.echo(f"written to {out}: look at ventilation.png")
    return options.WARNED if strict and (found.warnings or noted) else 0


def _check(inputs: tuple[Path, ...], fixed: Path | None, registering: Mapping[str, Any]) -> None:
    """Refuses what does not go together: `registering` has the options that say how to register.

    Raises:
        ValueError: or OSError, where DIR has no registration.
    """
    from jaxreg.pipeline.registered import require_result

    if len(inputs) > 2:
        raise ValueError(
            f"expected DIR, or FIXED and MOVING, got {len(inputs)} names. Leave out the others."
        )
    if len(inputs) == 1:
        require_result(inputs[0])
        given = [name for name, value in registering.items() if value]
        if given:
            option = {"assignments": "set"}.get(given[0], given[0]).replace("_", "-")
            raise ValueError(
                f"--{option}: expected FIXED and MOVING with it, got DIR, which is registered "
                "already. Leave the option away, or give both images."
            )
        return
    for path in inputs:
        if (path / _SUMMARY).is_file():
            raise ValueError(
                f"{path}: expected an image, got a folder that jaxreg register wrote. Give it "
                "alone, and the fixed image by --fixed."
            )
    if fixed is not None:
        raise ValueError(
            "--fixed: expected with DIR only, got FIXED and MOVING too. Leave it away."
        )


def _read(
    folder: Path, fixed: Path | None, series: str | None, orientation: str | None
) -> "RegisteredPair":
    """The pair in a folder of `jaxreg register`; `jaxreg demo` keeps the fixed image in it."""
    from jaxreg.io.images import read_image
    from jaxreg.pipeline.registered import read_registered_pair

    path = fixed or folder / "fixed.nii.gz"
    if fixed is None and not path.is_file():
        raise ValueError(
            f"--fixed: expected the fixed image that was registered, as {folder} does not hold "
            "it, got none. Give it."
        )
    image = read_image(path, series=series, orientation=orientation)
    return read_registered_pair(folder, image)


def _register(
    files: PairFiles, field: Path | None, out: Path, config: RegistrationConfig, stage: Stage
) -> "RegisteredPair":
    """Two images, registered or brought together by a given field."""
    from jaxreg.io.images import read_displacement
    from jaxreg.pipeline.judge import registration_of_field
    from jaxreg.pipeline.registered import registered_pair

    if field:
        fixed, moving, fixed_mask, moving_mask = read_pair(files)
        result = registration_of_field(
            read_displacement(field),
            fixed,
            moving,
            fixed_mask=fixed_mask,
            moving_mask=moving_mask,
            config=config,
            progress=stage,
        )
        return registered_pair(result)
    result, _ = register_files(files, settings=config, stage=stage)
    stage("writing the registration")
    result.save(out)
    return registered_pair(result)


def _labels(
    labels: Path | None, pair: "RegisteredPair", orientation: str | None
) -> "Volume | None":
    """The label map of the fixed image, on its grid."""
    from jaxreg.io.images import read_labels

    if labels is None:
        return None
    others = {} if pair.moving_grid is None else {"moving": pair.moving_grid}
    return read_labels(labels, grid=pair.fixed.grid, others=others, orientation=orientation)


def _table(found: "Ventilation") -> str:
    """The most important columns by regions, as text."""
    head = ("", "fixed, ml", "change, ml", "air change, ml", "of air change, %", "Jacobian", "HU")
    lines = [f"{head[0]:26}" + "".join(f"{word:>18}" for word in head[1:])]
    for row in found.rows:
        fraction = row["air_change_fraction"]
        values = (
            _millilitres(row["volume_fixed_ml"]),
            _millilitres(row["volume_change_ml"], sign="+"),
            _millilitres(row["air_change_ml"], sign="+"),
            "-" if fraction is None else f"{100 * fraction:.1f}",
            *(_median(row, name) for name in ("volume_jacobian", "volume_hu")),
        )
        lines.append(f"{row['region']:26}" + "".join(f"{value:>18}" for value in values))
    return "\n".join([*lines, "Jacobian, HU: median change of volume, ml/ml"])


def _median(row: Any, name: str) -> str:
    value = row[f"{name}_p50"]
    return "-" if value is None else f"{value:+.3f}"


def _millilitres(value: float, *, sign: str = "") -> str:
    """A volume with two decimals below 10 ml, where whole numbers would round a change away."""
    return format(value, f"{sign}.{0 if abs(value) >= 10 else 2}f")

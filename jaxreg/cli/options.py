"""Options that commands share, and how a command may take several values in a row."""

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from jaxreg.cli.files import PairFiles
from jaxreg.config import (
    METHODS,
    RegistrationConfig,
    override,
    read_registration_config,
    with_method,
)

FILE = click.Path(path_type=Path)  # whether it exists is said by what reads it


class _Field(click.Path):
    """A file of a field; a folder of jaxreg register stands for the one in it."""

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Path:
        path = Path(value)
        return path / "displacement.nii.gz" if path.is_dir() else path


FIELD = _Field(path_type=Path)


@dataclasses.dataclass(frozen=True)
class Registering:
    """The options that say how to register, as they were given.

    Attributes:
        method: one of METHODS, or None for that of the settings, "full" if weights are given.
        weights: name of weights that ship, or a path; None for those of the settings.
        inverse_consistency: whether to register in the other direction too.
        field_spacing: largest voxel size of the field that is written, mm; None for that of the
            settings.
        config: JSON file of settings or a `summary.json`; None for the defaults.
        assignments: of single settings, "group.name=value".
    """

    method: str | None = None
    weights: str | None = None
    inverse_consistency: bool = False
    field_spacing: float | None = None
    config: Path | None = None
    assignments: Sequence[str] = ()

    def settings(self) -> RegistrationConfig:
        """Makes the settings; `--set` wins over all others.

        Returns:
            The settings.

        Raises:
            ValueError: no such file, setting or value.
        """
        chosen = read_registration_config(self.config) if self.config else RegistrationConfig()
        if self.weights:
            network = dataclasses.replace(chosen.network, weights=self.weights)
            chosen = dataclasses.replace(chosen, network=network)
        if self.method or self.weights:
            chosen = with_method(chosen, self.method or "full")
        if self.inverse_consistency:
            chosen = dataclasses.replace(chosen, inverse_consistency=True)
        if self.field_spacing is not None:
            chosen = dataclasses.replace(chosen, field_spacing_mm=self.field_spacing)
        for assignment in self.assignments:
            chosen = override(chosen, assignment)
        return chosen


def _registering(command: Callable[..., Any]) -> Callable[..., Any]:
    names = [member.name for member in dataclasses.fields(Registering)]
    return _gathered(command, "registering", Registering, names)


def _gathered(
    command: Callable[..., Any], name: str, kind: Callable[..., Any], members: Sequence[str]
) -> Callable[..., Any]:
    """A command that takes one value of a kind in the place of several options."""

    @functools.wraps(command)
    def gathered(**given: Any) -> Any:
        value = kind(**{member: given.pop(member) for member in members if member in given})
        return command(**{name: value}, **given)

    return gathered


def pair(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds FIXED, MOVING and the options of `PairFiles`, as `files: PairFiles`."""
    command = _gathered(command, "files", PairFiles, PairFiles._fields)
    for name in ("moving", "fixed"):
        command = click.argument(name, type=FILE)(command)
    return pair_options(command)


orientation = click.option(
    "--orientation",
    metavar="AXES",
    help="Where the indices of voxels grow to in NIfTI and NRRD files that do not say it: three "
    "letters, such as LPS (left, posterior, superior).",
)


def pair_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --fixed-mask, --moving-mask, --series and --orientation to a command."""
    for add in (
        orientation,
        click.option(
            "--series",
            help="DICOM series in the folders: its number or the end of its UID; or FIXED's and "
            "MOVING's, with a comma between.",
        ),
        click.option("--moving-mask", type=FILE, help="Lungs of MOVING; found if not given."),
        click.option("--fixed-mask", type=FILE, help="Lungs of FIXED; found if not given."),
    ):
        command = add(command)
    return command


def given_settings(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --config and --set, as `registering: Registering`."""
    return _settings_files(_registering(command))


def _settings_files(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --config and --set."""
    for add in (
        click.option(
            "--set",
            "assignments",
            multiple=True,
            metavar="KEY=VALUE",
            help="One setting, such as optimiser.smoothness=0.5; may be repeated.",
        ),
        click.option("--config", type=FILE, help="Settings: a JSON file, or a summary.json."),
    ):
        command = add(command)
    return command


def settings(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds all options that say how to register, as `registering: Registering`."""
    command = _settings_files(_registering(command))
    for add in (
        click.option(
            "--inverse-consistency",
            is_flag=True,
            help="Register in the other direction too; writes the inverse-consistency error, mm.",
        ),
        click.option(
            "--weights",
            help="Name of weights that ship, or weights.npz of a training (default: lung).",
        ),
        click.option(
            "--method",
            type=click.Choice(METHODS),
            help="classical: optimisation on the pair (default); cascade: networks alone; "
            "full: both (default with --weights).",
        ),
    ):
        command = add(command)
    return command


field_spacing = click.option(
    "--field-spacing",
    type=float,
    metavar="MM",
    help="Write the displacement field with voxels of at most this size: smaller files for fine "
    "scans. The other images keep the grid of FIXED.",
)
field = click.option(
    "--field",
    type=FIELD,
    required=True,
    help="Displacement field of any tool (.nii.gz, .mha, .nrrd): LPS vectors in mm, fixed to "
    "moving; or a folder of jaxreg register.",
)
field_file = click.argument("field", metavar="FIELD", type=FIELD)
given_field = click.option("--field", type=FIELD, help="Field of any tool, instead of registering.")
folder = click.option("--out", type=FILE, required=True, help="Folder for the results.")
output = click.option("--out", type=FILE, required=True, help="File to write, .nii.gz or .nii.")
mask = click.option("--mask", type=FILE, help="Mask of the fixed image; the whole grid if none.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON and no words.")

WARNED = 3  # exit status with --strict
strict = click.option(
    "--strict",
    is_flag=True,
    help="End with exit status 3 where there are warnings; the results are written all the same.",
)
quiet = click.option(
    "--quiet/--verbose",
    "quiet",
    default=None,
    help="Show no progress, or show it even where there is no terminal.",
)


class ManyValues(click.Command):
    """A command whose repeatable options take several values in a row: --method initial affine."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeats the option before each of its values, as click wants it.

        Args:
            ctx: of click.
            args: words of the command line.

        Returns:
            Words that are left over.
        """
        options = [p for p in self.params if isinstance(p, click.Option) and p.multiple]
        names = {name for option in options for name in option.opts}
        return super().parse_args(ctx, _repeated(args, names))


def _repeated(args: Sequence[str], names: set[str]) -> list[str]:
    """["--method", "a", "b"] as ["--method", "a", "--method", "b"], for options of these names."""
    words, option, filled = [], None, False
    for arg in args:
        if arg.startswith("-"):
            name, separator, _ = arg.partition("=")
            option, filled = (name if name in names else None), bool(separator)
        elif option is not None:
            words += [option] if filled else []
            filled = True
        words.append(arg)
    return words

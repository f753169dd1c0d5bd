"""`jaxreg evaluate`: methods scored on data sets with known ground truth."""

import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from jaxreg.cli import options
from jaxreg.cli.compilation import keep_compiled_programs
from jaxreg.cli.progress import counted
from jaxreg.config import METHODS

DIRLAB = os.environ.get("JAXREG_DIRLAB", "data/dirlab4dct")
DIRLAB_COPD = os.environ.get("JAXREG_DIRLAB_COPD", "data/dirlabcopd")
EMPIRE10 = os.environ.get("JAXREG_EMPIRE10", "data/empire10")
NETWORK_METHODS = {"cascade", "full"}
SERIES = "series"  # all phases of a patient at once


class _Named(click.ParamType):
    """NAME=PATH; a name is a part of file names and none of our own methods."""

    name = "name=path"

    def convert(self, value, param, ctx) -> tuple[str, Path]:
        if isinstance(value, tuple):
            return value
        name, separator, path = value.partition("=")
        plain = name and all(c.isascii() and (c.isalnum() or c in "-_.~") for c in name)
        if not (separator and path and plain and name not in (*METHODS, SERIES)):
            self.fail(
                f"expected NAME=PATH with a name of letters, digits, '-', '_' and '.', none of "
                f"{', '.join(METHODS)}, got '{value}'",
                param,
                ctx,
            )
        return name, Path(path)


def _folder(name: str, default: str, text: str):
    """An option for a data set in a folder, whose path may be left out."""
    return click.option(
        name, is_flag=False, flag_value=default, metavar="[DIR]", help=f"{text} [{default}]"
    )


@click.command("evaluate", cls=options.ManyValues)
@click.option("--phantom", is_flag=True, help="Generated pairs; the default.")
@_folder("--dirlab", DIRLAB, "DIR-Lab 4DCT.")
@click.option(
    "--phases",
    is_flag=True,
    help="Of DIR-Lab 4DCT the 75 points in the phases T10 to T50, with the method `series` too.",
)
@_folder("--dirlab-copd", DIRLAB_COPD, "DIR-Lab COPDgene.")
@_folder("--empire10", EMPIRE10, "EMPIRE10.")
@click.option("--learn2reg", metavar="JSON", help="Dataset JSON of a task.")
@click.option(
    "--copdgene",
    metavar="MANIFEST",
    help="Own pairs with lobes; the paper's Table 1 is printed beside.",
)
@click.option("--manifest", metavar="JSON", help="Own pairs.")
@click.option(
    "--method",
    "names",
    type=click.Choice((*METHODS, SERIES)),
    multiple=True,
    help="One or several; default: initial classical. `series` needs --phases.",
)
@click.option(
    "--networks",
    type=_Named(),
    multiple=True,
    metavar="NAME=FILE ...",
    help="The cascade with the weights of a file.",
)
@click.option(
    "--fields",
    type=_Named(),
    multiple=True,
    metavar="NAME=DIR ...",
    help="Displacement fields of another tool: CASE.nii.gz, .mha or .nrrd on the grid of the "
    "fixed image, LPS mm, as ITK, ANTs and elastix write them.",
)
@click.option(
    "--ablation", type=options.FILE, metavar="DIR", help="Trained variants of Table 2 in DIR."
)
@click.option(
    "--weights", type=options.FILE, help="Of --method; those that ship by default.", metavar="FILE"
)
@click.option(
    "--cases", "case_names", multiple=True, metavar="NAME ...", help="Only these, such as 1 5 10."
)
@click.option(
    "--export", type=options.FILE, metavar="DIR", help="Write the cases for other tools and stop."
)
@click.option(
    "--out",
    type=options.FILE,
    default=Path("runs/evaluation"),
    show_default=True,
    help="Folder for tables and figures.",
)
@click.option("--fresh", is_flag=True, help="Compute stored results again.")
@options.as_json
@options.quiet
def command(
    phases: bool,
    names: Sequence[str],
    networks: Sequence[tuple[str, Path]],
    fields: Sequence[tuple[str, Path]],
    ablation: Path | None,
    weights: Path | None,
    case_names: Sequence[str],
    export: Path | None,
    out: Path,
    fresh: bool,
    as_json: bool,
    quiet: bool | None,
    **sources: Any,
) -> int:
    """Score methods on data sets with known ground truth.

    The published figures are printed beside. Tables go to the terminal and, as Markdown, CSV and
    JSON, under OUT, with a figure of every registration and report.html, which shows all of it in a
    browser; fields in the format of a challenge go under OUT/DATASET/submission.

    A run that was stopped goes on with the cases that are missing. A case that fails is reported
    and does not stop the others; the exit status is then 1.
    \f
    Returns:
        Exit status.
    """
    from jaxreg.benchmark import cases
    from jaxreg.benchmark import export as exporting
    from jaxreg.benchmark.table import finite

    keep_compiled_programs()
    _check_phases(phases, names, sources)
    if not (names or networks or fields or ablation):
        names = ("initial", SERIES if phases else "classical")
    elif not names and (networks or fields) and not ablation:
        names = ("initial",)
    chosen = list(_methods(names, weights, networks, ablation, fields))
    if len({method.name for method in chosen}) < max(1, len(chosen)):
        raise ValueError("expected methods of different names, got none or one twice. Rename.")
    failures, documents = 0, {}
    for data in _data_sets(sources, phases=phases):
        asked = cases.choose(data.cases, case_names or None)
        if export:
            click.echo(f"written {exporting.export_cases(export / data.name, asked)}")
            continue
        by_method = _score(data, asked, chosen, out / data.name, fresh=fresh, quiet=quiet)
        tables = _write(data, by_method, out / data.name, ablation=ablation is not None)
        failed = [record for found in by_method.values() for record in found if record.error]
        failures += len(failed)
        documents[data.name] = {
            "tables": {name: [finite(row) for row in content] for name, (_, content) in tables},
            "failed": [[record.case, record.method, record.error] for record in failed],
        }
        if not as_json:
            _show(tables, by_method, out / data.name)
        for record in failed:
            words = f"jaxreg: {data.name} {record.case} {record.method}: {record.error}"
            click.echo(words, err=True)
    if as_json and not export:
        click.echo(json.dumps(documents, indent=2, allow_nan=False))
    return 1 if failures else 0


def _check_phases(phases: bool, names: Sequence[str], sources: dict[str, Any]) -> None:
    """Refuses phases of anything but DIR-Lab 4DCT, and the method `series` without them."""
    if phases and not sources["dirlab"]:
        raise ValueError("--phases: expected --dirlab with it, got none. Add --dirlab DIR.")
    if SERIES in names and not phases:
        raise ValueError(
            f"--method {SERIES}: expected --dirlab and --phases with it, got none. Add them, or "
            "use classical."
        )


def _data_sets(sources: dict[str, Any], *, phases: bool) -> Iterator[Any]:
    """Yields the data sets that were asked for."""
    from jaxreg.benchmark import cases
    from jaxreg.benchmark.phases import dirlab_phases_data

    asked = [name for name in cases.READERS if sources[name]]
    for name in asked:
        read = dirlab_phases_data if phases and name == "dirlab" else cases.READERS[name]
        yield read(sources[name])
    if sources["phantom"] or not asked:
        yield cases.phantom_data()


def _methods(names, weights, networks, ablation, fields) -> Iterator[Any]:
    """Yields the methods in the order in which tables show them."""
    from jaxreg.benchmark import methods, phases
    from jaxreg.config import CascadeConfig, RegistrationConfig, with_method
    from jaxreg.network.weights import load_named

    def registering(name, method, file):
        params, network = load_named(file) if method in NETWORK_METHODS else (None, None)
        config = RegistrationConfig(network=CascadeConfig(weights=str(file), architecture=network))
        return methods.registering(name, config=with_method(config, method), params=params)

    for name in names:
        if name == SERIES:
            yield methods.series(name, config=phases.SETTINGS)
            continue
        yield methods.INITIAL if name == "initial" else registering(name, name, weights or "lung")
    for name, path in (*networks, *(_variants(ablation) if ablation else ())):
        yield registering(name, "cascade", path)
    for name, folder in fields:
        yield methods.outside(name, folder)


def _variants(folder: Path) -> list[tuple[str, Path]]:
    """Weights of the ablation's variants in a folder; says which are not there yet."""
    from jaxreg.benchmark import published

    files = [(name, folder / name / "weights.npz") for name in published.ABLATION]
    missing = [name for name, path in files if not path.is_file()]
    if missing:
        words = f"jaxreg train --config ablation/NAME --workdir {folder}/NAME"
        click.echo(f"not trained yet: {', '.join(missing)}; {words}", err=True)
    return [file for file in files if file[0] not in missing]


def _score(data, asked, chosen, folder: Path, *, fresh: bool, quiet: bool | None):
    """Records of the cases of a data set, by method; shows how far it is."""
    from jaxreg.benchmark import run

    by_method = {method.name: [] for method in chosen}
    with counted(len(asked), quiet=quiet) as count:
        for case in asked:
            began = time.perf_counter()
            for record in run.evaluate(data, case, chosen, folder, fresh=fresh):
                by_method[record.method].append(record)
            count.done(f"{data.name} {case.name}: {time.perf_counter() - began:.0f} s")
    return by_method


def _write(data, by_method, folder: Path, *, ablation: bool) -> list[tuple[str, Any]]:
    """Writes the tables of a data set; returns name, title and rows of each."""
    from jaxreg.benchmark import published, run

    figures = published.ABLATION if ablation else None
    return list(run.write_results(data, by_method, folder, ablation=figures).items())


def _show(tables, by_method, folder: Path) -> None:
    """Prints the tables of a data set."""
    from jaxreg.benchmark import run
    from jaxreg.benchmark.table import markdown

    for _, (title, content) in tables:
        click.echo(f"\n{title} (fixed: {run.fixed_phases(by_method)})\n\n{markdown(content)}")
    click.echo(f"written to {folder}; open {folder / 'report.html'}")

"""Scores registrations on data sets with known truth, the published figures beside ours.

    python evaluate.py                                   # generated pairs (--phantom)
    python evaluate.py --dirlab DIR --method initial affine cascade classical full
    python evaluate.py --dirlab DIR --method initial     # needs the landmark files alone
    python evaluate.py --manifest pairs.json --fields ants=fields/ants elastix=fields/elastix
    python evaluate.py --networks voxelmorph=runs/voxelmorph/weights.npz
    python evaluate.py --ablation runs/ablation          # Table 2 of the paper
    python evaluate.py --dirlab DIR --export images      # NIfTI and a manifest for other tools

A method is one of jaxreg's own (--method), its cascade with the weights of a file (--networks), or
an outside tool whose displacement fields lie in a folder (--fields): CASE.nii.gz, .mha or .nrrd on
the grid of the fixed image, LPS mm, as ITK, ANTs and elastix write them. All are scored alike.

Tables go to the terminal and, as Markdown, CSV and JSON, under --out, with a picture of every
registration and report.html, which shows all of it in a browser; fields in the format of a
challenge go under --out/DATASET/submission. A run that was stopped goes on with the cases that are
missing. A case that fails is reported and does not stop the others; the exit status is then 1.
"""

import argparse
import dataclasses
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxreg.benchmark import cases, comparisons, methods, published, results, rows, scores
from jaxreg.benchmark.cost import measured
from jaxreg.benchmark.export import export_cases
from jaxreg.benchmark.html import snapshot_path, write_report
from jaxreg.benchmark.methods import Method
from jaxreg.benchmark.table import markdown, write_table
from jaxreg.figures.pair import report_picture
from jaxreg.figures.thumbnails import take_snapshot, write_snapshot
from jaxreg.network.weights import load_shipped, load_weights
from jaxreg.pipeline.registration import METHODS, versions

DIRLAB = os.environ.get("JAXREG_DIRLAB", "data/dirlab4dct")
DIRLAB_COPD = os.environ.get("JAXREG_DIRLAB_COPD", "data/dirlabcopd")
EMPIRE10 = os.environ.get("JAXREG_EMPIRE10", "data/empire10")
NETWORK_METHODS = {"cascade", "full"}
FAILURES = (ValueError, OSError, RuntimeError, MemoryError, ImportError)  # of one case


def main(arguments: list[str] | None = None) -> int:
    """Evaluates what was asked for; returns the exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal may be unable to show "±"
    options = parse(arguments)
    failures = 0
    try:
        chosen = list(chosen_methods(options))
        if len({method.name for method in chosen}) < max(1, len(chosen)):
            raise ValueError("expected methods of different names, got none or one twice. Rename.")
        for data in data_sets(options):
            asked = cases.choose(data.cases, options.cases)
            if options.export:
                print(f"written {export_cases(options.export / data.name, asked)}")
                continue
            folder = options.out / data.name
            (folder / "cases").mkdir(parents=True, exist_ok=True)
            settings = {"data set": data.name, "source": data.source}
            settings |= {"code": results.code_digest(), **versions()}
            by_method = {method.name: [] for method in chosen}
            for case in asked:
                print(f"{data.name} {case.name} ...", file=sys.stderr, flush=True)
                for record in evaluate(data, case, chosen, folder, settings):
                    by_method[record.method].append(record)
            failures += show(data, by_method, folder, settings, ablation=bool(options.ablation))
    except (ValueError, OSError, ImportError) as error:
        print(f"evaluate.py: {error}", file=sys.stderr)
        return 1
    return 1 if failures else 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Returns the options; --phantom where no data set is named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--phantom", action="store_true", help="generated pairs; the default")
    add("--dirlab", nargs="?", const=DIRLAB, metavar="DIR", help="DIR-Lab 4DCT (%(const)s)")
    add("--dirlab-copd", nargs="?", const=DIRLAB_COPD, metavar="DIR", help="(%(const)s)")
    add("--empire10", nargs="?", const=EMPIRE10, metavar="DIR", help="(%(const)s)")
    add("--learn2reg", metavar="JSON", help="dataset JSON of a task")
    add("--copdgene", metavar="MANIFEST", help="own pairs with lobes, the paper's Table 1 beside")
    add("--manifest", metavar="JSON", help="own pairs")
    add("--method", nargs="+", choices=METHODS, help="default: initial classical")
    add("--networks", nargs="+", type=named, default=[], metavar="NAME=FILE")
    add("--fields", nargs="+", type=named, default=[], metavar="NAME=DIR")
    add("--ablation", type=Path, metavar="DIR", help="the variants of configs/ablation in DIR")
    add("--weights", type=Path, metavar="FILE", help="of --method; those that ship by default")
    add("--cases", nargs="+", metavar="NAME", help="only these, such as 1 5 10")
    add("--export", type=Path, metavar="DIR", help="write the cases there and stop")
    add("--out", type=Path, default=Path("runs/evaluation"), metavar="DIR")
    options = parser.parse_args(arguments)
    if options.method is None:
        if options.ablation:
            options.method = []
        elif options.networks or options.fields:
            options.method = ["initial"]
        else:
            options.method = ["initial", "classical"]
    return options


def named(text: str) -> tuple[str, Path]:
    """NAME and path of NAME=PATH; a name is a part of file names and none of our own methods."""
    name, separator, path = text.partition("=")
    if not (separator and path and methods.file_name(name) == name != "" and name not in METHODS):
        raise argparse.ArgumentTypeError(
            f"expected NAME=PATH with a name of letters, digits, '-', '_' and '.', none of "
            f"{', '.join(METHODS)}, got '{text}'"
        )
    return name, Path(path)


def data_sets(options: argparse.Namespace) -> Iterator[cases.DataSet]:
    """Yields the data sets that were asked for."""
    asked = [name for name in cases.READERS if getattr(options, name)]
    for name in asked:
        yield cases.READERS[name](getattr(options, name))
    if options.phantom or not asked:
        yield cases.phantom_data()


def chosen_methods(options: argparse.Namespace) -> Iterator[Method]:
    """Yields the methods in the order in which tables show them."""
    for name in options.method:
        if name == "initial":
            yield methods.INITIAL
        elif name in NETWORK_METHODS:
            params, config = load_weights(options.weights) if options.weights else load_shipped()
            yield methods.registering(name, method=name, params=params, config=config)
        else:
            yield methods.registering(name, method=name)
    for name, path in options.networks + (variants(options.ablation) if options.ablation else []):
        params, config = load_weights(path)
        yield methods.registering(name, method="cascade", params=params, config=config)
    for name, folder in options.fields:
        yield methods.outside(name, folder)


def variants(folder: Path) -> list[tuple[str, Path]]:
    """Weights of the ablation's variants in a folder; says which are not there yet."""
    files = [(name, folder / name / "weights.npz") for name in published.ABLATION]
    missing = [name for name, path in files if not path.is_file()]
    if missing:
        command = f"python train.py --config configs/ablation/NAME.py --workdir {folder}/NAME"
        print(f"not trained yet: {', '.join(missing)}; {command}", file=sys.stderr)
    return [file for file in files if file[0] not in missing]


def evaluate(data: cases.DataSet, case: cases.Case, chosen, folder: Path, settings):
    """Yields a record of each method: the finished one, or a new one, which is written."""
    truth = None
    for method in chosen:
        used = settings | {"depends on": method.depends(case.name)}
        place = folder / "cases" / f"{methods.file_name(case.name)}-{method.name}"
        file = place.with_name(f"{place.name}.json")
        record = results.read_record(file, settings=used)
        if record is None:
            try:
                truth = truth or case.load()
                record = score(data, case.name, truth, method, place)
            except FAILURES as error:
                text = " ".join(str(error).split()) or type(error).__name__
                record = results.Record(case.name, method.name, error=text)
            results.write_record(file, record, settings=used)
        yield record


def score(data: cases.DataSet, case: str, truth: cases.Truth, method: Method, place: Path):
    """Returns the record of one case by one method; draws it."""
    if method.register is None:
        found = scores.initial_scores(truth)
        return results.Record(case, method.name, truth.fixed_phase, **found)
    pair = truth.images()
    with measured() as cost:
        found = method.register(case, pair)
    measures: dict[str, Any] = scores.field_scores(
        truth,
        pair,
        found.displacement,
        lungs=found.fixed_mask,
        prealignment=found.prealignment,
    )
    if method.timed:
        measures |= dataclasses.asdict(cost)
    if data.deliver:
        target = place.parents[1] / "submission" / method.name
        measures["challenge"] = data.deliver(target, pair, found.displacement)
    record = results.Record(case, method.name, truth.fixed_phase, **measures)
    images: dict[str, Any] = {
        "fixed": pair.fixed,
        "moving": pair.moving,
        "warped": found.warp(),
        "determinant": found.jacobian_determinant(),
        "mask": found.fixed_mask,
    }
    write_snapshot(snapshot_path(place.parents[1], case, method.name), take_snapshot(**images))
    picture, title = place.with_name(f"{place.name}.png"), f"Case {case}: {method.name}"
    report_picture(picture, **images, title=title, lines=record.lines())
    return record


def show(data: cases.DataSet, by_method, folder: Path, settings, *, ablation: bool) -> int:
    """Prints and writes the tables of a data set; returns the number of failures."""
    records = [record for found in by_method.values() for record in found]
    phases = sorted({record.fixed_phase for record in records if record.fixed_phase})
    settings = settings | {"fixed": ", ".join(phases)}
    tables = comparisons.tables(
        by_method,
        published=data.published,
        published_cases=data.published_cases,
        labels=data.labels,
        ablation=published.ABLATION if ablation else None,
    )
    for file, (title, content) in tables.items():
        title = f"{data.name}, {title}"
        print(f"\n{title} (fixed: {settings['fixed']})\n\n{markdown(content)}")
        write_table(folder / file, content, title=title, settings=settings, legend=rows.LEGEND)
    page = write_report(
        folder,
        by_method,
        title=f"{data.name}: {', '.join(by_method)}",
        rows=tables["methods"][1],
        settings=settings,
        more={title: content for name, (title, content) in tables.items() if name != "methods"},
        legend=rows.LEGEND,
        label_names=data.labels,
    )
    print(f"written to {folder}; open {page}")
    failed = [record for record in records if record.error]
    for record in failed:
        text = f"{data.name} {record.case} {record.method}: {record.error}"
        print(f"evaluate.py: {text}", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())

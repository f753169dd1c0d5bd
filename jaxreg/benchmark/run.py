"""One run on a data set: its cases by several methods, records kept, tables and figures written.

A finished case is not computed again where its inputs are the same: the version of jaxreg, the data
set and its source, and the settings of the method (weights or field files included).
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from jaxreg.benchmark import comparisons, results, rows
from jaxreg.benchmark.cases import Case, DataSet, GroundTruth
from jaxreg.benchmark.html import thumbnail_path, write_report
from jaxreg.benchmark.methods import Method, Outcome
from jaxreg.benchmark.naming import file_name
from jaxreg.benchmark.published import PublishedAblation
from jaxreg.benchmark.results import Record
from jaxreg.benchmark.table import Row, write_table
from jaxreg.figures.pair import pair_figure
from jaxreg.figures.thumbnails import make_thumbnail, write_thumbnail
from jaxreg.io.atomic import sweep
from jaxreg.pipeline.registration import versions

FAILURES = (ValueError, OSError, RuntimeError, MemoryError, ImportError)  # of one case


def evaluate(
    data: DataSet, case: Case, chosen: Sequence[Method], folder: Path, *, fresh: bool = False
) -> Iterator[Record]:
    """Yields the record of each method on one case: the stored one, or a new one, which is stored.

    A case that fails gives a record with its error, which is not taken for a finished one.

    Args:
        data: the data set.
        case: one of its cases.
        chosen: methods, in the order of the records.
        folder: of the run.
        fresh: compute every record anew.
    """
    ground_truth = None
    (folder / "cases").mkdir(parents=True, exist_ok=True)
    sweep(folder / "cases")  # what a killed run left half-written
    version = {"jaxreg": versions()["jaxreg"]}
    for method in chosen:
        inputs = {"data set": data.name, "source": data.source, **version}
        inputs |= {"method": method.settings(case.name)}
        path = folder / "cases" / f"{file_name(case.name)}-{method.name}.json"
        record = None if fresh else results.read_record(path, inputs=inputs)
        if record is None:
            try:
                ground_truth = ground_truth or case.load()
                record = score(data, case.name, ground_truth, method, folder)
            except FAILURES as error:
                text = " ".join(str(error).split()) or type(error).__name__
                record = Record(case.name, method.name, error=text)
            results.write_record(path, record, inputs=inputs)
        yield record


def score(
    data: DataSet, case: str, ground_truth: GroundTruth, method: Method, folder: Path
) -> Record:
    """Scores one case by one method; writes its figures and the files of the challenge.

    Args:
        data: data set of the case.
        case: its name.
        ground_truth: of the case.
        method: registers the case.
        folder: of the run.

    Returns:
        The record of the case.
    """
    outcome = method.run(case, ground_truth)
    measures = dict(outcome.scores)
    if outcome.registered and data.deliver:
        pair, registration = outcome.registered
        target = folder / "submission" / method.name
        measures["challenge"] = data.deliver(target, pair, registration.displacement)
    record = Record(case, method.name, ground_truth.fixed_phase, made_with=versions(), **measures)
    if outcome.registered:
        _draw(outcome, record, folder)
    return record


def _draw(outcome: Outcome, record: Record, folder: Path) -> None:
    """Writes the figure and the thumbnail of a case."""
    assert outcome.registered is not None
    pair, registration = outcome.registered
    moving, quality = registration.prealigned(), registration.quality
    case, method = record.case, record.method
    thumbnail = make_thumbnail(
        fixed=pair.fixed,
        moving=moving,
        warped=registration.warp(),
        determinant=registration.jacobian_determinant(),
        mask=registration.fixed_mask,
    )
    write_thumbnail(thumbnail_path(folder, case, method), thumbnail)
    figure = folder / "cases" / f"{file_name(case)}-{method}.png"
    pair_figure(
        figure,
        fixed=pair.fixed,
        moving=moving,
        warped=registration.warped_in,
        determinant=registration.determinant_in,
        mask=registration.fixed_mask,
        quality=None if quality is None else quality.part,
        title=f"Case {case}: {method}",
        lines=record.lines(),
        warnings=[str(warning["text"]) for warning in registration.warnings],
    )


def write_results(
    data: DataSet,
    by_method: Mapping[str, Sequence[Record]],
    folder: Path,
    *,
    ablation: Mapping[str, PublishedAblation] | None = None,
) -> dict[str, tuple[str, Sequence[Row]]]:
    """Writes the tables and the HTML page of a data set into the folder of a run.

    Args:
        data: the data set.
        by_method: records of each method.
        folder: of the run.
        ablation: the paper's figures, where the methods are its variants.

    Returns:
        Title and rows of each table, by file name.
    """
    settings = _settings(data, by_method)
    tables = comparisons.tables(
        by_method,
        published=data.published,
        published_cases=data.published_cases,
        label_names=data.label_names,
        ablation=ablation,
    )
    tables = {name: (f"{data.name}, {title}", content) for name, (title, content) in tables.items()}
    for name, (title, content) in tables.items():
        write_table(folder / name, content, title=title, settings=settings, legend=rows.LEGEND)
    write_report(
        folder,
        by_method,
        title=f"{data.name}: {', '.join(by_method)}",
        rows=tables["methods"][1],
        settings=settings,
        more={title: content for name, (title, content) in tables.items() if name != "methods"},
        legend=rows.LEGEND,
        label_names=data.label_names,
    )
    return tables


def fixed_phases(by_method: Mapping[str, Sequence[Record]]) -> str:
    """The respiratory states that were fixed, in words."""
    records = [record for found in by_method.values() for record in found]
    return ", ".join(sorted({record.fixed_phase for record in records if record.fixed_phase}))


def _settings(data: DataSet, by_method: Mapping[str, Sequence[Record]]) -> dict[str, str]:
    """What the tables say of the run; versions and device are those that made the records."""
    settings = {"data set": data.name, "source": data.source}
    made = [record.made_with for found in by_method.values() for record in found]
    for name in dict.fromkeys(name for versions_of_one in made for name in versions_of_one):
        values = sorted({used[name] for used in made if name in used})
        settings[name] = ", ".join(values)
    return settings | {"fixed": fixed_phases(by_method)}

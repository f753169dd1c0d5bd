"""The report of a run: one HTML file that opens from a disk, without a network.

An overview (tables, figures, settings) and a page a case, where one scrolls through slices of the
images before and after. It is made from records and thumbnails alone, so a run that was stopped and
went on has the same report. The page's state is in its address: `#case=1&method=full&view=warped&
plane=coronal&slice=40`. The template is `report.html`, which escapes all that it is given.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import matplotlib
import numpy as np

from jaxreg.benchmark.charts import Records, method_colours, overlap_chart, tre_chart
from jaxreg.benchmark.naming import file_name
from jaxreg.benchmark.results import Record
from jaxreg.benchmark.rows import case_rows
from jaxreg.benchmark.slices import embedded_slices
from jaxreg.benchmark.table import Row, columns, shown
from jaxreg.figures.comparison import image_figure, jacobian_figure
from jaxreg.figures.page import data_uri, template
from jaxreg.figures.thumbnails import read_thumbnail
from jaxreg.figures.views import DIFFERENCE_COLOURS, VOLUME_COLOURS
from jaxreg.io.atomic import replacing

_CAPTIONS = {
    "tre": "Fraction of all landmarks within an error; dots mark the 75th percentiles.",
    "overlap": "Overlap of labels: Dice, average surface distance, Hausdorff distance. Boxes span "
    "the quartiles over cases, each case is a dot.",
    "jacobian": "Case {case}: volume change in the lungs over coronal slices, red where folded.",
    "images": "Case {case}: middle coronal slice before and after.",
}


class _Cell(NamedTuple):
    """Text of a table; a colour is that of its method, a link that of its case."""

    text: str
    long: bool = False
    colour: str | None = None
    link: str | None = None


class _Table(NamedTuple):
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[_Cell]]


def thumbnail_path(folder: Path, case: str, method: str) -> Path:
    """Returns where the thumbnail of a case and method is kept.

    Args:
        folder: of the run.
        case: its name, any text.
        method: its name, plain ASCII.

    Returns:
        Path of an .npz file, which may not exist.
    """
    return folder / "cases" / f"{file_name(case)}-{method}.npz"


def write_report(
    folder: Path,
    by_method: Records,
    *,
    title: str,
    rows: Sequence[Row],
    settings: Mapping[str, Any],
    more: Mapping[str, Sequence[Row]] | None = None,
    legend: Mapping[str, str] | None = None,
    label_names: Mapping[str, str] | None = None,
) -> Path:
    """Writes report.html and its figures (.png) into the folder of a run.

    Args:
        folder: of the run; `thumbnail_path` says where the thumbnails are.
        by_method: records of each method. Those without a thumbnail have no slices.
        title: of the report.
        rows: of the table of methods, with a column "method".
        settings: what made the records, versions included.
        more: other tables, by title.
        legend: what columns mean; shown for those that a table has.
        label_names: of the labels, such as {"1": "right upper"}.

    Returns:
        The path of report.html.
    """
    paths = _thumbnail_paths(folder, by_method)
    slices, spacing_mm = embedded_slices(paths)
    colours, others = method_colours(by_method), more or {}
    used = {name for table in (rows, *others.values()) for name in columns(table)}
    page = template(Path(__file__).with_name("report.html")).render(
        title=title,
        links=[(_link(case), case) for case in paths],
        methods=_table("", rows, colours),
        others=[_table(name, table, colours) for name, table in others.items()],
        figures=list(_figures(folder, by_method, paths, label_names)),
        overview=_table("", _overview(by_method, list(paths)), colours),
        legend={name: text for name, text in (legend or {}).items() if name in used},
        settings={name: shown(value) for name, value in settings.items()},
        cases=[_table(case, _case(case, by_method), colours) for case in paths],
        spacing_mm=spacing_mm,
        data={
            "names": list(paths),
            "cases": [slices["cases"][case] for case in paths],
            "images": slices["images"],
            "difference_colours": _colours(DIFFERENCE_COLOURS),
            "volume_colours": _colours(VOLUME_COLOURS),
        },
    )
    with replacing(folder / "report.html") as temporary:
        temporary.write_text(page, encoding="utf-8")
    return folder / "report.html"


def _thumbnail_paths(folder, by_method) -> dict[str, dict[str, Path]]:
    """Thumbnails by case and method; every case is named, whether it has any or not."""
    paths: dict[str, dict[str, Path]] = {}
    for method, records in by_method.items():
        for record in records:
            found = paths.setdefault(record.case, {})
            path = thumbnail_path(folder, record.case, method)
            if not record.error and path.is_file():
                found[method] = path
    return paths


def _colours(name):
    """256 colours of a map, [[red, green, blue], ...] in bytes."""
    return matplotlib.colormaps.get_cmap(name)(np.arange(256), bytes=True)[:, :3].tolist()


def _figures(folder, by_method, paths, label_names) -> Iterator[dict[str, Any]]:
    """Draws the figures of the run and yields them embedded."""
    drawn = {"tre": tre_chart(folder / "tre.png", by_method)}
    drawn["overlap"] = overlap_chart(folder / "overlap.png", by_method, label_names=label_names)
    case = max(paths, key=lambda name: len(paths[name]), default="")  # the first with most methods
    found = {method: read_thumbnail(path) for method, path in paths.get(case, {}).items()}
    thumbnails = {method: thumbnail for method, thumbnail in found.items() if thumbnail is not None}
    if thumbnails:
        image_figure(folder / "images.png", thumbnails)
        jacobian_figure(folder / "jacobian.png", thumbnails)
    drawn |= {"images": bool(thumbnails), "jacobian": bool(thumbnails)}
    for name in (name for name, done in drawn.items() if done):
        yield {
            "uri": data_uri((folder / f"{name}.png").read_bytes(), "png"),
            "caption": _CAPTIONS[name].format(case=case),
            "wide": name in ("images", "jacobian"),
        }


def _overview(by_method, cases) -> list[dict[str, Any]]:
    """A row a case: its mean TRE, or Dice where there are no landmarks, by method."""
    rows = {case: {"case": case} for case in cases}
    for method, records in by_method.items():
        for record in records:
            scores = _scores(record)
            score = next((key for key in ("TRE mm", "Dice") if scores.get(key) is not None), None)
            text = "failed" if record.error else None
            rows[record.case][f"{method}: {score}" if score else method] = (
                scores[score] if score else text
            )
    return list(rows.values())


def _case(case, by_method) -> list[dict[str, Any]]:
    """A row a method: its scores on one case."""
    return [
        {"method": method, **_scores(record)}
        for method, records in by_method.items()
        for record in records
        if record.case == case
    ]


def _scores(record: Record) -> dict[str, Any]:
    (row,) = case_rows([record])
    return {name: value for name, value in row.items() if name != "case"}


def _table(title: str, rows: Sequence[Row], colours: Mapping[str, str]) -> _Table:
    names = columns(rows)
    return _Table(title, names, [[_cell(row, name, colours) for name in names] for row in rows])


def _cell(row: Row, name: str, colours: Mapping[str, str]) -> _Cell:
    value, text = row.get(name), shown(row.get(name))
    if name == "method":
        return _Cell(text, colour=colours.get(text))
    if name == "case":
        return _Cell(text, link=_link(text))
    return _Cell(text, long=isinstance(value, str) and len(value) > 30)


def _link(case: str) -> str:
    """Address of the page of a case."""
    return "#" + urlencode({"case": case})

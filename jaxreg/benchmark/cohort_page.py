"""The results of a whole cohort: results.csv, and index.html with every pair's picture.

The page opens from a disk, without a network; its pictures are the report.png of the pairs, by
relative links. The template is `cohort.html`, which escapes all that it is given.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from jaxreg.benchmark.table import csv_text, shown
from jaxreg.figures.page import template
from jaxreg.io.atomic import replacing, sweep
from jaxreg.pipeline.cohort import COLUMNS, FAILED, OK, WARNED, Row, quality_of

_LAST = float("inf")  # position of what was not measured, when sorted
_NUMBERS = {  # heading, and column of the row
    "correlation before": "correlation_before",
    "after": "correlation_after",
    "TRE mean, mm": "tre_mean_mm",
    "95th percentile": "tre_p95_mm",
    "Dice": "dice",
    "uncertified cells": "uncertified_cells",
    "Jacobian 1 %": "jacobian_p1",
    "99 %": "jacobian_p99",
    "seconds": "seconds",
}
_ORDER = {FAILED: 0, WARNED: 1, OK: 2}


class _Cell(NamedTuple):
    """Text of a table, and the number by which it is sorted."""

    text: str
    order: float


class _Entry(NamedTuple):
    """A row of the page."""

    id: str
    position: int
    status: _Cell
    detail: str
    quality: float
    lungs: Sequence[str]
    numbers: Sequence[_Cell]
    folder: str | None


def write_cohort(out: Path, rows: Sequence[Row], *, total: int) -> None:
    """Writes results.csv and index.html, each whole or not at all.

    Args:
        out: the folder that has the folders of the pairs.
        rows: of the pairs that are finished, in the order of their table.
        total: number of pairs in the table.
    """
    sweep(out)
    used = [name for name in _NUMBERS if any(row[_NUMBERS[name]] is not None for row in rows)]
    entries = [_entry(row, position, used) for position, row in enumerate(rows)]
    counts = [(status, sum(row["status"] == status for row in rows)) for status in _ORDER]
    page = template(Path(__file__).with_name("cohort.html")).render(
        title=f"Cohort: {len(rows)} of {total} pairs",
        counts=counts,
        missing=total - len(rows),
        headings=used,
        entries=sorted(entries, key=lambda entry: (entry.quality, entry.position)),
    )
    for name, content in (("results.csv", csv_text(rows, COLUMNS)), ("index.html", page)):
        with replacing(out / name) as temporary:
            temporary.write_text(content, encoding="utf-8")


def _entry(row: Row, position: int, used: Sequence[str]) -> _Entry:
    failed, quality = row["status"] == FAILED, quality_of(row)
    lungs = [(name, row[f"quality_{name}"]) for name in ("right", "left")]
    return _Entry(
        id=row["id"],
        position=position,
        status=_Cell(row["status"], _ORDER[row["status"]]),
        detail=row["error"] or row["warnings"].replace(" ", ", "),
        quality=-1.0 if failed else _LAST if quality is None else quality,
        lungs=[f"{name} {shown(value)}" for name, value in lungs if value is not None],
        numbers=[_number(row[_NUMBERS[name]]) for name in used],
        folder=None if failed else quote(row["folder"]),
    )


def _number(value: float | None) -> _Cell:
    return _Cell(shown(value), _LAST if value is None else value)

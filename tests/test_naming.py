"""Names of cases in file names, tables and charts."""

import csv
import os

import pytest

from jaxreg.benchmark.naming import file_name
from jaxreg.benchmark.table import write_table

CASES = [
    "a",
    "a/b",
    "..",
    ".",
    "x" * 250,
    "x" * 249 + "y",
    "肺" * 32,
    "肺" * 33,
    "$1 and $2",
    "%2E",
]


def test_every_name_becomes_a_file_of_its_own(tmp_path):
    for case in CASES:
        path = tmp_path / f"{file_name(case)}-classical.json"
        assert path.parent == tmp_path and not path.exists()
        path.write_text(case, encoding="utf-8")
    assert len(list(tmp_path.iterdir())) == len(CASES)


@pytest.mark.parametrize(("case", "name"), [("7", "7"), ("a/b", "a%2Fb"), ("..", "%2E%2E")])
def test_short_names_can_be_read(case, name):
    assert file_name(case) == name
    assert os.sep not in file_name(case)


def test_no_cell_of_a_table_is_a_formula(tmp_path):
    rows = [{"case": case, "TRE mm": -1.5} for case in ("=1+1", "@x", "+3", "-x", "plain")]
    write_table(tmp_path / "t", rows, title="t", settings={})
    with open(tmp_path / "t.csv", encoding="utf-8", newline="") as file:
        cells = [(row["case"], row["TRE mm"]) for row in csv.DictReader(file)]
    assert cells == [(c, "-1.5") for c in ("'=1+1", "'@x", "'+3", "'-x", "plain")]

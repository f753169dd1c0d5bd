"""Tables: text as printed, files that can be read back."""

import csv
import json

import pytest

from jaxreg.benchmark import table

ROWS = [
    {"method": "initial", "mean": 8.4639, "folds %": 0.0, "note": None},
    {"method": "full", "mean": 0.94, "folds %": 0.00051, "seconds": 12, "note": "a|b"},
]


def test_markdown_is_aligned_and_rounded():
    assert table.markdown(ROWS).splitlines() == [
        "| method  | mean | folds % | note | seconds |",
        "| ------- | ---: | ------: | ---- | ------: |",
        "| initial | 8.46 |    0.00 | –    |       – |",
        "| full    | 0.94 | 0.00051 | a\\|b |      12 |",
    ]


@pytest.mark.parametrize(
    "value, text",
    [(0.0996, "0.10"), (0.0949, "0.095"), (-0.004, "-0.004"), (float("nan"), "–"), (3, "3")],
)
def test_numbers_keep_two_digits(value, text):
    assert table.markdown([{"x": value}]).splitlines()[-1].strip("| ") == text
    assert table.shown(value) == text


def test_files_hold_all_digits_and_the_settings(tmp_path):
    rows = [*ROWS, {"method": "bad", "mean": float("nan")}]
    table.write_table(tmp_path / "t", rows, title="Table 4", settings={"seed": 3})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.csv", "t.json", "t.md"]
    document = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))
    assert document["title"] == "Table 4" and document["settings"] == {"seed": 3}
    assert document["rows"][:2] == ROWS and document["rows"][2]["mean"] is None
    read = list(csv.DictReader((tmp_path / "t.csv").read_text(encoding="utf-8").splitlines()))
    assert float(read[0]["mean"]) == 8.4639 and read[0]["seconds"] == ""
    text = (tmp_path / "t.md").read_text(encoding="utf-8")
    assert text.startswith("# Table 4\n") and table.markdown(rows) in text and "- seed: 3" in text


def test_columns_are_explained_where_the_table_has_them(tmp_path):
    legend = {"mean": "of cases", "sd": "of cases too"}
    table.write_table(tmp_path / "t", ROWS, title="T", settings={}, legend=legend)
    assert json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))["columns"] == {
        "mean": "of cases"
    }
    text = (tmp_path / "t.md").read_text(encoding="utf-8")
    assert "- mean: of cases\n" in text and "too" not in text

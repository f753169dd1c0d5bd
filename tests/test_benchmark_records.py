"""What a benchmark stores with --json."""

import datetime
import importlib.util
import json
import sys

import pytest
from documentation import ROOT


@pytest.fixture
def harness(monkeypatch):
    """The module benchmarks/harness.py."""
    spec = importlib.util.spec_from_file_location("harness", ROOT / "benchmarks" / "harness.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(harness, monkeypatch, *words, rows):
    """The options of a benchmark that was called with some words, after it has stored rows."""
    monkeypatch.setattr(sys, "argv", ["somewhere/benchmarks/pairs.py", *map(str, words)])
    parser = harness.development_parser("Measures something.")
    parser.add_argument("--method", default="classical")
    parser.add_argument("--count", type=int, default=20)
    options = parser.parse_args()
    harness.print_rows(rows, options)
    return options


def test_a_record_says_what_made_it(harness, monkeypatch, tmp_path, capsys):
    path = tmp_path / "record.json"
    words = (tmp_path, "--json", path, "--method", "affine", "--count", 20)
    run(harness, monkeypatch, *words, rows=[{"pair": "a", "mm": 0.5}, {"pair": "b", "mm": 1.5}])
    record = json.loads(path.read_text(encoding="utf-8"))
    assert record["command"] == "python benchmarks/pairs.py FOLDER --method affine --count 20"
    assert record["settings"] == {"method": "affine"}
    assert record["date"] == datetime.date.today().isoformat()
    assert record["machine"]["cores"] >= 1 and record["machine"]["cpu"]
    assert record["machine"]["device"] == "cpu"
    assert record["rows"] == [{"pair": "a", "mm": 0.5}, {"pair": "b", "mm": 1.5}]
    assert "transcribed" not in record
    assert "| b | 1.50 |" in capsys.readouterr().out


def test_a_record_holds_the_rows_so_far_when_a_run_ends_early(harness, monkeypatch, tmp_path):
    path = tmp_path / "record.json"

    def rows():
        yield {"pair": "a"}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(harness, monkeypatch, "--json", path, rows=rows())
    assert json.loads(path.read_text(encoding="utf-8"))["rows"] == [{"pair": "a"}]


def test_figures_of_all_rows_are_kept_beside_them(harness, monkeypatch, tmp_path):
    path = tmp_path / "record.json"
    options = run(harness, monkeypatch, "--json", path, rows=[{"pair": "a"}])
    harness.keep(options, [{"pair": "a"}], correlation=0.5)
    record = json.loads(path.read_text(encoding="utf-8"))
    assert record["correlation"] == 0.5 and record["rows"] == [{"pair": "a"}]


def test_without_json_nothing_is_written(harness, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    run(harness, monkeypatch, rows=[{"pair": "a"}])
    assert not list(tmp_path.iterdir())

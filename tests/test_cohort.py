"""What is to be done of a cohort, the rows of its pairs, and the pages that show them."""

import dataclasses
import json
import os
import re
import sys
from pathlib import Path

import chromium
import numpy as np
import pytest

from jaxreg.benchmark.cohort_page import write_cohort
from jaxreg.cli import cohort
from jaxreg.cli.app import main
from jaxreg.cli.cohort_worker import work
from jaxreg.config import RegistrationConfig, override, with_method
from jaxreg.datasets.manifest import Pair
from jaxreg.geometry.volume import DisplacementField, Volume
from jaxreg.io.nifti import write_volume
from jaxreg.io.points import Landmarks
from jaxreg.pipeline import cohort as pipeline
from jaxreg.pipeline.cohort import COLUMNS, failed_row, file_stamps, plan_cohort, row_of, scores
from jaxreg.pipeline.result import Registration

AFFINE = np.diag([-2.0, 1.5, 3.0, 1.0])
CONFIG = with_method(RegistrationConfig(), "affine")


@pytest.fixture
def pair(tmp_path):
    """A pair of files with a mask."""
    for name in ("fixed", "moving", "mask"):
        write_volume(tmp_path / f"{name}.nii", Volume(np.ones((4, 5, 6), np.uint8), AFFINE))
    files = {name: tmp_path / f"{name}.nii" for name in ("fixed", "moving")}
    return Pair("p/1", **files, fixed_mask=tmp_path / "mask.nii")


def summary_of(job, **more):
    """What a registration of a job says of itself."""
    return {
        "config": json.loads(json.dumps(dataclasses.asdict(job.config))),
        "versions": {"jaxreg": job.made_from["jaxreg"]},
        "weights": None,
        "lungs": {"right": {"quality": 0.9}, "left": {"quality": 0.7}},
        "correlation_before": 0.4,
        "correlation_after": 0.8,
        "folds_in_lungs": 0.0,
        "certificate": {"uncertified": 2},
        "jacobian_percentiles": {"1": 0.5, "5": 0.7, "50": 0.9, "95": 1.1, "99": 1.3},
        "warnings": [],
        "cohort": {
            "files": job.made_from["files"],
            "space": job.pair.space,
            "tre_mm": None,
            "dice": None,
            "seconds": 3.0,
            "peak_memory_gb": 1.5,
        },
        **more,
    }


def keep(job, **more):
    job.folder.mkdir(exist_ok=True)
    text = json.dumps(summary_of(job, **more))
    (job.folder / "summary.json").write_text(text, encoding="utf-8")


def plan(pair, folder, *, config=CONFIG):
    return plan_cohort([pair], [folder], config=config)


def test_a_pair_is_done_once(pair, tmp_path):
    out = tmp_path / "out"
    (job,) = plan(pair, out).jobs
    keep(job)
    again = plan(pair, out)
    assert not again.jobs and not again.failed
    assert again.done["p/1"]["status"] == "ok" and again.done["p/1"]["folder"] == "out"


def test_a_pair_whose_worker_died_after_writing_it_is_not_made_again(pair, tmp_path):
    (job,) = plan(pair, tmp_path / "out").jobs
    keep(job)
    before = (job.folder / "summary.json").stat().st_mtime_ns
    assert work(job)["status"] == "ok"  # the images of 4x5x6 voxels show no lungs
    assert (job.folder / "summary.json").stat().st_mtime_ns == before


def test_workers_may_run_in_another_folder(pair, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    near = dataclasses.replace(pair, fixed=Path("fixed.nii"), moving=Path("moving.nii"))
    (job,) = plan(near, Path("out")).jobs
    assert job.pair == pair and job.folder == tmp_path / "out"


def change_setting(pair, job):
    return pair, override(CONFIG, "grid.margin_mm=11")


def change_file(pair, job):
    os.utime(pair.moving, ns=(0, 0))
    return pair, CONFIG


def change_mask(pair, job):
    return dataclasses.replace(pair, fixed_mask=None), CONFIG


def change_space(pair, job):
    return dataclasses.replace(pair, space="LPS"), CONFIG


def change_version(pair, job):
    keep(job, versions={"jaxreg": "0.0.1"})
    return pair, CONFIG


def cut(pair, job):
    path = job.folder / "summary.json"
    path.write_text(path.read_text(encoding="utf-8")[:-9], encoding="utf-8")
    return pair, CONFIG


def of_register(pair, job):
    path = job.folder / "summary.json"
    summary = json.loads(path.read_text(encoding="utf-8"))
    del summary["cohort"]
    path.write_text(json.dumps(summary), encoding="utf-8")
    return pair, CONFIG


@pytest.mark.parametrize(
    "change",
    [change_setting, change_file, change_mask, change_space, change_version, cut, of_register],
)
def test_a_result_of_something_else_is_made_again(pair, tmp_path, change):
    out = tmp_path / "out"
    (job,) = plan(pair, out).jobs
    keep(job)
    assert not plan(pair, out).jobs
    changed, config = change(pair, job)
    assert len(plan(changed, out, config=config).jobs) == 1


def test_a_missing_file_is_a_failure_of_its_pair(pair, tmp_path):
    lost = dataclasses.replace(pair, id="q", landmarks=tmp_path / "no.csv")
    found = plan_cohort([pair, lost], [tmp_path / "a", tmp_path / "b"], config=CONFIG)
    assert [job.pair.id for job in found.jobs] == ["p/1"]
    assert found.failed["q"]["error"] == (
        f"landmarks: expected a file or a folder, got none at {tmp_path / 'no.csv'}. Correct the "
        "path."
    )


def test_stamps_see_every_file_of_an_image(pair, tmp_path):
    series = tmp_path / "series"
    (series / "deep").mkdir(parents=True)
    for name in ("1.dcm", "deep/2.dcm"):
        (series / name).write_bytes(b"abc")
    (tmp_path / "m.mhd").write_bytes(b"header")
    (tmp_path / "m.raw").write_bytes(b"12345")
    both = dataclasses.replace(pair, fixed=series, moving=tmp_path / "m.mhd")
    stamps = file_stamps(both)
    assert stamps["fixed"][0] == 6 and stamps["moving"][0] == 11
    os.utime(series / "deep" / "2.dcm", ns=(0, 4_000_000_000_000_000_000))
    assert file_stamps(both)["fixed"] == [6, 4_000_000_000_000_000_000]


def test_landmarks_and_labels_are_scored(pair):
    image = Volume(np.zeros((8, 8, 8), np.float32), np.eye(4))
    field = DisplacementField(np.full((8, 8, 8, 3), (1.0, 0.0, 0.0), np.float32), np.eye(4))
    registration = Registration(image, image, field, image, np.eye(4), {})
    points = np.full((4, 3), 3.0)
    marks = Landmarks(points, points + np.array([1.0, 3.0, 4.0]), np.full(4, ""))
    labels = np.zeros((8, 8, 8), np.int32)
    labels[2:4] = 1
    there, here = (Volume(np.roll(labels, n, axis=0), np.eye(4)) for n in (1, 0))
    found = scores(registration, landmarks=marks, fixed_labels=here, moving_labels=there)
    assert found["tre_mm"] == {
        "count": 4,
        "before_mean": pytest.approx(np.sqrt(26.0)),
        "mean": pytest.approx(5.0),
        "median": pytest.approx(5.0),
        "p95": pytest.approx(5.0),
    }
    assert found["dice"] == 1.0
    assert scores(registration, fixed_labels=here) == {"tre_mm": None, "dice": None}


def test_a_row_follows_from_the_summary(pair, tmp_path):
    (job,) = plan(pair, tmp_path / "out").jobs
    doubts = [{"code": code, "text": "", "lung": None} for code in ("a-b", "c", "a-b")]
    row = row_of("p/1", "p%2F1", summary_of(job, warnings=doubts))
    assert tuple(row) == COLUMNS == tuple(failed_row("p", ValueError("no\n good")))
    assert row["status"] == "warned" and row["warnings"] == "a-b c"
    assert row["quality_left"] == 0.7 and row["jacobian_p99"] == 1.3
    assert row["uncertified_cells"] == 2 and row["tre_mean_mm"] is None
    assert failed_row("p", ValueError("no\n good"))["error"] == "no good"


def test_memory_is_estimated_from_the_largest_header(pair, tmp_path):
    (job,) = plan(pair, tmp_path / "out").jobs
    small = pipeline.bytes_needed([job])
    write_volume(pair.moving, Volume(np.zeros((300, 200, 100), np.int16), AFFINE))
    (job,) = plan(pair, tmp_path / "out").jobs
    assert pipeline.bytes_needed([job]) - small == 36 * (6_000_000 - 120)
    pair.moving.write_bytes(b"no image")
    assert pipeline.bytes_needed([job]) == small


# The command, with the work done by others.

ROWS = {
    "ok": {"id": "ok", "status": "ok", "quality_right": 0.9, "quality_left": 0.8},
    "doubt": {"id": "doubt", "status": "warned", "warnings": "a b", "quality_left": 0.3},
    "bad": failed_row("bad", "expected <CT>, got 'x'"),
}
ROWS = {
    name: {column: row.get(column) for column in COLUMNS}
    | {"folder": name, "error": row.get("error") or "", "warnings": row.get("warnings") or ""}
    for name, row in ROWS.items()
}
for _row in (ROWS["ok"], ROWS["doubt"]):
    _row |= {"correlation_before": 0.25, "correlation_after": 0.5, "seconds": 4.2}


@pytest.fixture
def run(pair, tmp_path, monkeypatch):
    """Runs the command on a table of these ids, whose rows are those of ROWS."""

    def results(jobs, workers, scheduler, say):
        for job in jobs:
            yield ROWS[job.pair.id]

    monkeypatch.setattr("jaxreg.cli.cohort._results", results)

    def call(*ids, more=(), columns="id,fixed,moving", cells="fixed.nii,moving.nii"):
        lines = [columns, *(f"{name},{cells}" for name in ids)]
        (tmp_path / "pairs.csv").write_text("\n".join(lines), encoding="utf-8")
        out = tmp_path / "results"
        return main(arguments=["cohort", str(tmp_path / "pairs.csv"), "--out", str(out), *more])

    return call


@pytest.mark.parametrize(
    ("ids", "more", "status"),
    [
        (["ok"], ["--strict"], 0),
        (["ok", "doubt"], [], 0),
        (["ok", "doubt"], ["--strict"], 3),
        (["ok", "doubt", "bad"], ["--strict"], 1),
    ],
)
def test_the_exit_status_tells_of_failures_and_warnings(run, tmp_path, capsys, ids, more, status):
    assert run(*ids, more=more) == status
    printed = capsys.readouterr()
    counts = f"{ids.count('ok')} ok, {ids.count('doubt')} warned, {ids.count('bad')} failed"
    assert f"{len(ids)} pairs: {counts}\n" in printed.out
    lines = (tmp_path / "results" / "results.csv").read_text(encoding="utf-8").splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == ids
    assert "[1/" in printed.err and "ok: ok, quality 0.80, correlation 0.250 to 0.500, 4 s" in (
        printed.err
    )
    if "bad" in ids:
        assert "doubt: warned (a, b), quality 0.30" in printed.err
        assert "bad: failed: expected <CT>, got 'x'\n" in printed.err


def test_rows_are_printed_for_scripts(run, capsys):
    assert run("ok", "doubt", "bad", more=["--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["ok"], told["warned"], told["failed"]) == (1, 1, 1)
    assert told["rows"] == [ROWS["ok"], ROWS["doubt"], ROWS["bad"]]


def test_quiet_leaves_the_result_alone(run, capsys):
    run("ok", "doubt", more=["--quiet"])
    printed = capsys.readouterr()
    assert printed.err == "" and printed.out.count("\n") == 2


@pytest.mark.parametrize(
    ("ids", "options", "text"),
    [
        (["ok"], {"cells": "no.nii,moving.nii"}, "expected files relative to the folder of the"),
        (["a", "A"], {}, "id: expected ids that differ in more than upper and lower case, got 'a'"),
        (["..x"], {}, "id: expected a name for a folder, not hidden and none of results.csv, inde"),
        (["index.html"], {}, "index.html, got 'index.html'. Choose another id."),
        (["ok"], {"more": ["--workers", "2", "--scheduler", "tcp://x:1"]}, "--workers, --schedule"),
        (["ok"], {"more": ["--set", "optimiser.radius=0"]}, "radius: expected a number above 0, g"),
        (["ok"], {"columns": "id,fix,moving"}, "expected the columns id, fixed, moving, got 'id, "),
    ],
)
def test_a_table_that_cannot_be_right_is_one_line(run, capsys, ids, options, text):
    assert run(*ids, **options) == 1
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1 and text in printed


def test_columns_that_are_not_used_are_told(run, capsys):
    assert run("ok", columns="id,fixed,moving,age", cells="fixed.nii,moving.nii,61") == 0
    assert capsys.readouterr().err.startswith("warning: columns that are not used: age\n")


def test_a_manifest_is_taken_without_its_broken_pairs(run, tmp_path, capsys):
    good = {"fixed": "fixed.nii", "moving": "moving.nii", "id": "ok"}
    entries = [good, {**good, "id": "gone", "moving": "no.nii"}]
    (tmp_path / "pairs.json").write_text(json.dumps(entries), encoding="utf-8")
    out = str(tmp_path / "results")
    assert main(arguments=["cohort", str(tmp_path / "pairs.json"), "--out", out]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("2 pairs: 1 to register, 1 without their files\n")
    assert "gone: failed: moving: expected a file" in printed.err
    assert "2 pairs: 1 ok, 0 warned, 1 failed" in printed.out


def test_without_dask_the_command_to_install_it_is_told(run, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert run("ok") == 1
    printed = capsys.readouterr().err
    assert printed.startswith("jaxreg: cohort: expected Dask (dask.distributed), got ")
    assert printed.endswith("Install it: pip install 'jaxreg[cohort]'.\n")


def test_a_gpu_is_not_divided(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "jax_cuda12_plugin")
    for platforms, expected in ((None, True), ("cuda,cpu", True), ("cpu", False)):
        monkeypatch.delenv("JAX_PLATFORMS", raising=False)
        if platforms:
            monkeypatch.setenv("JAX_PLATFORMS", platforms)
        assert cohort._has_gpu() is expected


# The page.

ID = 'a/<b> & "c"'


@pytest.fixture
def page(tmp_path):
    rows = [
        ROWS["ok"] | {"id": "p10", "tre_mean_mm": 1.0},
        ROWS["ok"] | {"id": ID, "folder": "a%2F%3Cb%3E", "quality_left": 0.4},
        ROWS["bad"],
        ROWS["doubt"] | {"id": "p9", "tre_mean_mm": 0.4},
    ]
    write_cohort(tmp_path, rows, total=6)
    return tmp_path


def test_the_page_shows_the_worst_first_and_escapes(page):
    text = (page / "index.html").read_text(encoding="utf-8")
    assert "<title>Cohort: 4 of 6 pairs</title>" in text and "2 not finished" in text
    assert re.findall(r'data-position="(\d)"', text) == ["2", "3", "1", "0"]
    assert ID not in text and "a/&lt;b&gt; &amp; &#34;c&#34;" in text
    assert 'src="a%252F%253Cb%253E/report.png"' in text and "expected &lt;CT&gt;" in text
    assert text.count("<img") == 3
    assert not re.search(r"https?:|//", text.split("<body>")[1].split("<script>")[0])
    assert "Dice" not in text  # measured nowhere


@pytest.mark.skipif(chromium.CHROMIUM is None, reason="no chromium")
def test_the_page_sorts_and_filters(page, tmp_path_factory):
    with chromium.chromium_page(tmp_path_factory.mktemp("profile")) as browser:
        browser.call("Page.navigate", url=(page / "index.html").as_uri())
        browser.wait("document.readyState === 'complete' && !!document.querySelector('output')")

        def ids():
            shown = "[...document.querySelectorAll('tr:not([hidden]) .name')]"
            return browser.run(f"{shown}.map((cell) => cell.textContent)")

        def click(name):
            browser.run(f"document.querySelector('button[data-column=\"{name}\"]').click()")

        assert ids() == ["bad", "p9", ID, "p10"]
        click("quality")
        assert ids() == ["p10", ID, "p9", "bad"]
        click("id")
        assert ids() == [ID, "bad", "p9", "p10"]
        headings = "[...document.querySelectorAll('th')].map((cell) => cell.textContent.trim())"
        column = browser.run(headings).index("TRE mean, mm") - 4
        click(column)
        assert ids()[:2] == ["p9", "p10"]
        click(column)
        assert ids()[:2] == ["p10", "p9"]
        browser.run(
            "(f => { f.value = 'FAILED'; f.dispatchEvent(new Event('input')); })"
            "(document.getElementById('filter'))"
        )
        assert ids() == ["bad"]
        assert browser.run("document.querySelector('output').textContent") == "1 of 4"


def test_tables_are_whole_or_as_they_were(page, monkeypatch):
    before = {name: (page / name).read_bytes() for name in ("index.html", "results.csv")}
    monkeypatch.setattr(Path, "write_text", lambda *_, **__: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        write_cohort(page, [ROWS["ok"]], total=1)
    assert {name: (page / name).read_bytes() for name in before} == before
    assert sorted(os.listdir(page)) == ["index.html", "results.csv"]

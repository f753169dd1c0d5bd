"""Runs of `jaxreg cohort` in processes of their own, killed and started again."""

import contextlib
import csv
import operator
import os
import signal
import time
from pathlib import Path

import psutil
import pytest
from processes import start

from jaxreg.cli.app import main
from jaxreg.io.nifti import write_volume
from jaxreg.phantom.pair import phantom_pair
from jaxreg.pipeline import workers

ROOT = Path(__file__).resolve().parents[1]
CHEAP = ("--method", "affine", "--set", "grid.shape=[32,32,32]")
FIELDS = ("displacement.nii.gz", "quality.nii.gz", "warped.nii.gz")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Two small pairs, one with a damaged image, one whose image is missing."""
    folder = tmp_path_factory.mktemp("cohort")
    rows = ["id,fixed,moving,fixed_mask,moving_mask"]
    for number in range(2):
        pair = phantom_pair(number, shape=(60, 48, 52), spacing_mm=(6.0, 6.0, 6.0))
        cells = []
        for name in ("fixed", "moving", "fixed_mask", "moving_mask"):
            image, _, kind = name.partition("_")
            volume = getattr(pair, f"{image}_labels" if kind else image)
            cells.append(f"{number}/{name}.nii.gz")
            (folder / str(number)).mkdir(exist_ok=True)
            write_volume(folder / cells[-1], volume)
        rows.append(f"p/{number},{','.join(cells)}")
    (folder / "bad.nii.gz").write_bytes(b"no image")
    rows.insert(2, "bad,0/fixed.nii.gz,bad.nii.gz,,")
    rows.insert(3, "gone,no.nii.gz,0/moving.nii.gz,,")
    (folder / "pairs.csv").write_text("\n".join(rows), encoding="utf-8")
    return folder / "pairs.csv"


@contextlib.contextmanager
def started(table, out, *options):
    """A run of the command; killed at the end if it has not ended."""
    words = ["-m", "jaxreg", "cohort", table, "--out", out, *CHEAP, *options]
    with start(*words, own_session=True, PYTHONPATH=str(ROOT)) as process:
        try:
            yield process
        finally:
            process.kill()


def wait(condition, process):
    for _ in range(1200):
        if condition():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("waited for a minute")


def processes_of(process):
    """The workers of a run."""
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if is_worker(child)]


def processes_of_this():
    """The workers of this process."""
    return [child for child in psutil.Process().children() if is_worker(child)]


def is_worker(child):
    try:
        return "spawn_main" in " ".join(child.cmdline())
    except psutil.NoSuchProcess:  # it ended just now
        return False


def summaries(out):
    return {path: path.stat().st_mtime_ns for path in out.glob("*/summary.json")}


def assert_ended(children):
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive


@pytest.mark.slow
def test_a_run_survives_kills_and_gives_the_bits_of_register(table, tmp_path):
    out = tmp_path / "out"
    with started(table, out, "--workers", "1") as process:
        wait(lambda: summaries(out), process)
        children = processes_of(process)
        process.kill()  # SIGKILL, in the middle of another pair
        process.wait()
    assert len(children) == 1
    assert_ended(children)
    before = summaries(out)
    assert len(before) == 1
    with started(table, out, "--workers", "1") as process:
        wait(lambda: processes_of(process), process)
        wait(lambda: busy(processes_of(process)), process)
        processes_of(process)[0].kill()
        printed, told = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "warning: a worker process died; its pair is tried again.\n" in told
    assert f"{len(before)} done before in {out}, 1 without their files\n" in told
    assert "4 pairs: 2 ok, 0 warned, 2 failed\n" in printed
    after = summaries(out)
    assert len(after) == 2 and {path: after[path] for path in before} == before  # none again
    with open(out / "results.csv", encoding="utf-8") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    assert [row["status"] for row in rows.values()] == ["ok", "failed", "failed", "ok"]
    assert "bad.nii.gz: expected" in rows["bad"]["error"]
    assert rows["gone"]["error"].startswith("fixed: expected a file or a folder, got none at ")
    assert float(rows["p/1"]["seconds"]) > 0 and rows["p/1"]["folder"] == "p%2F1"
    assert not list(out.rglob(".jaxreg-*"))
    images = [table.parent / "1" / f"{name}.nii.gz" for name in ("fixed", "moving")]
    masks = ["--fixed-mask", table.parent / "1" / "fixed_mask.nii.gz"]
    masks += ["--moving-mask", table.parent / "1" / "moving_mask.nii.gz"]
    words = ["register", *images, *masks, *CHEAP, "--out", tmp_path / "one"]
    assert main(arguments=[str(word) for word in words]) == 0
    for name in FIELDS:
        assert (tmp_path / "one" / name).read_bytes() == (out / "p%2F1" / name).read_bytes()


def busy(children):
    """Whether a worker is past its start: it has worked for a few seconds."""

    def seconds(child):
        try:
            return sum(child.cpu_times()[:2])
        except psutil.NoSuchProcess:
            return 0.0

    return any(seconds(child) > 3 for child in children)


def test_an_interrupted_run_ends_its_workers_and_says_so_in_one_line(table, tmp_path):
    with started(table, tmp_path / "out", "--workers", "2") as process:
        wait(lambda: len(processes_of(process)) == 2, process)
        children = processes_of(process)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert told.endswith("jaxreg: interrupted.\n")
    assert "Traceback" not in told and "distributed" not in told
    assert_ended(children)


class Counted:
    """Numbers, and how many were taken."""

    def __init__(self, count):
        self.taken, self._numbers = 0, iter(range(count))

    def __iter__(self):
        return self

    def __next__(self):
        number = next(self._numbers)
        self.taken += 1
        return number


def test_tasks_wait_with_the_caller_and_deadly_ones_are_given_up(monkeypatch):
    from distributed import KilledWorker

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    lost = []
    with workers.local_workers(1, threads=1, on_loss=lambda: lost.append(1)) as client:
        numbers, most = Counted(20), 0
        for done, (number, result) in enumerate(
            workers.finished(client, operator.neg, numbers, expected=1)
        ):
            assert result == -number
            most = max(most, numbers.taken - done)
        assert most <= workers._AHEAD
        found = dict(workers.finished(client, divmod_, [(1, 0), (7, 2)], expected=1))
        assert isinstance(found[1, 0], ZeroDivisionError) and found[7, 2] == (3, 1)
        assert not lost
        ((_, error),) = workers.finished(client, os._exit, [1], expected=1)
        assert isinstance(error, KilledWorker)
        assert len(lost) >= workers._ATTEMPTS - 1
    assert not processes_of_this()


def divmod_(pair):
    return divmod(*pair)


def test_an_address_where_nothing_answers_is_told(monkeypatch):
    monkeypatch.setattr(workers, "_CONNECTING_SECONDS", 1)
    for address in ("tcp://127.0.0.1:9", "nowhere"):
        with pytest.raises(OSError, match="--scheduler: expected the address of a Dask scheduler"):
            with workers.workers_of(address):
                pass

"""Files and sets of files that are whole or absent, also when the process is killed."""

import errno
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from jaxreg.io.atomic import replacing, replacing_set, sweep

NAMES = ("a.txt", "b.txt", "c.txt", "summary.json")


def write(folder, text, names=NAMES):
    with replacing_set(folder, NAMES) as hidden:
        for name in names:
            (hidden / name).write_text(text, encoding="utf-8")


def contents(folder):
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}


def test_a_set_replaces_another_and_leaves_other_files_alone(tmp_path):
    folder = tmp_path / "new" / "folder"
    write(folder, "1")
    assert contents(folder) == dict.fromkeys(NAMES, "1")
    (folder / "mine.txt").write_text("kept", encoding="utf-8")
    write(folder, "2", ("a.txt", "summary.json"))
    assert contents(folder) == {"a.txt": "2", "summary.json": "2", "mine.txt": "kept"}


def test_a_set_that_fails_leaves_the_old_one(tmp_path):
    write(tmp_path, "1")
    with pytest.raises(RuntimeError, match="stop"):
        with replacing_set(tmp_path, NAMES) as hidden:
            (hidden / "a.txt").write_text("2", encoding="utf-8")
            raise RuntimeError("stop")
    assert contents(tmp_path) == dict.fromkeys(NAMES, "1")


@pytest.mark.parametrize("names", [("a.txt",), ("a.txt", "other.txt", "summary.json")])
def test_a_set_without_its_last_file_or_with_another_is_refused(tmp_path, names):
    write(tmp_path, "1")
    with pytest.raises(ValueError, match="expected files of the set a.txt, .*, summary.json, the"):
        write(tmp_path, "2", names)
    assert contents(tmp_path) == dict.fromkeys(NAMES, "1")


WRITER = """
import sys, time
from pathlib import Path
from jaxreg.io.atomic import replacing_set

folder, names = Path(sys.argv[1]), sys.argv[2].split(",")
for number in range(10**6):
    with replacing_set(folder, names) as hidden:
        for name in names:
            (hidden / name).write_text(str(number) * 20000, encoding="utf-8")
    print(number, flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_thirty_kills_leave_whole_sets_or_none_and_no_rubbish(tmp_path):
    rng, whole = random.Random(0), 0
    for _ in range(30):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, tmp_path, ",".join(NAMES)], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(rng.uniform(0, 0.02))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if (tmp_path / "summary.json").exists():
            whole += 1
            found = {name: (tmp_path / name).read_text(encoding="utf-8") for name in NAMES}
            assert len(set(found.values())) == 1
            assert len(found["a.txt"]) % 20000 == 0
    assert whole > 0
    write(tmp_path, "end")
    assert contents(tmp_path) == dict.fromkeys(NAMES, "end")


def test_left_overs_are_swept_and_work_of_others_is_not(tmp_path):
    code = (
        "import sys, time; from jaxreg.io.atomic import replacing\n"
        "with replacing(sys.argv[1]) as path:\n"
        "    path.write_text('half', encoding='utf-8'); print(1, flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "a.nii.gz"], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    sweep(tmp_path)
    (temporary,) = tmp_path.iterdir()  # it lives, and so does its file
    assert temporary.name.endswith("-a.nii.gz")
    process.kill()
    process.communicate()
    assert list(tmp_path.iterdir()) == [temporary]
    sweep(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_names_the_file(tmp_path):
    for context in (replacing(tmp_path / "a.txt"), replacing_set(tmp_path, NAMES)):
        with pytest.raises(OSError, match=r"expected room on the disk, got 'No space left") as info:
            with context:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        assert str(info.value).startswith(str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.txt"
    with replacing(path) as temporary:
        temporary.write_text("1", encoding="utf-8")
        assert not path.exists()
    with pytest.raises(RuntimeError, match="stop"), replacing(path) as temporary:
        temporary.write_text("2", encoding="utf-8")
        raise RuntimeError("stop")
    assert contents(tmp_path) == {"a.txt": "1"}

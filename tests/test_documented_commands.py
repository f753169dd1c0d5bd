"""Every command and every Python block of README and docs, on small data.

The commands of a page run in their order, in a folder that holds what `jaxreg demo` writes, but
smaller, and on a lung grid of 32x32x32 voxels. A command that stands on several pages runs once.
Commands of PARSED are only parsed, because they take minutes: they train, evaluate, start
processes, register many images, or need images or a lung grid of full size. In Python blocks,
`register_volumes` returns a registration that is there already, and `register_series` a small one.
Lines that are not of jaxreg must be of a known kind (`KINDS`), and what they name must exist.
"""

import functools
import glob
import importlib
import re
import shlex
import shutil
import tomllib
from pathlib import Path

import jax
import numpy as np
import pytest
from dicom_data import write_series
from documentation import PAGES, ROOT, blocks, commands, name, prose, read

import jaxreg
from jaxreg.cli.app import COMMANDS, main
from jaxreg.config import LungGridConfig, RegistrationConfig
from jaxreg.configs import config_path
from jaxreg.configs.smoke import config as smoke
from jaxreg.io.nifti import write_volume
from jaxreg.io.points import Landmarks, write_landmarks
from jaxreg.network.cascade import init_level
from jaxreg.network.weights import save_weights
from jaxreg.phantom.pair import phantom_pair

PARSED = ("cohort", "demo", "evaluate", "follow", "keypoints", "series", "train")
SMALL = ["--set", "grid.shape=[32,32,32]"]
THERE = ("demo", "demo_series", "PATIENT", "runs", "docs")  # folders that the fixture makes
NOT_RUN = "# not run by the tests"
CONFIG = RegistrationConfig(grid=LungGridConfig((32, 32, 32)))

pytestmark = [
    pytest.mark.usefixtures("quick_compilation"),
    pytest.mark.filterwarnings("ignore::jaxreg.io.notes.FileWarning"),
]


@pytest.fixture(scope="module")
def params():
    """Untrained networks of the configuration "smoke"."""
    levels = range(1, smoke.network.levels + 1)
    return {f"level_{n}": init_level(jax.random.key(n), smoke.network) for n in levels}


@pytest.fixture(scope="module")
def data(tmp_path_factory, params):
    """A folder with all that the commands of the documentation read."""
    folder = tmp_path_factory.mktemp("documentation")
    demo, phases, patient = (folder / name for name in ("demo", "demo_series", "PATIENT"))
    for new in (demo, phases, patient, folder / "runs" / "smoke", folder / "docs" / "cascade"):
        new.mkdir(parents=True)
    pair = phantom_pair(3, shape=(60, 48, 52))
    for image in ("fixed", "moving"):
        write_volume(demo / f"{image}.nii.gz", getattr(pair, image))
        write_volume(demo / f"{image}_lobes.nii.gz", getattr(pair, f"{image}_labels"))
    kinds = np.full(len(pair.fixed_landmarks), "vessel")
    points = Landmarks(pair.fixed_landmarks, pair.moving_landmarks, kinds)
    write_landmarks(demo / "landmarks.csv", points)
    result = jaxreg.register_volumes(pair.fixed, pair.moving, config=CONFIG)
    result.save(demo)
    for numbers, image, into in ((3, "fixed", "inspiration"), (5, "moving", "expiration")):
        write_dicom(patient / into, getattr(pair, image), numbers)
        write_dicom(patient / "study", getattr(pair, image), numbers)
    write_volume(patient / "expiration_labels.nii.gz", pair.moving_labels)
    for number, image in ((0, "fixed"), (5, "moving")):
        shutil.copy(demo / f"{image}.nii.gz", phases / f"phase_{number:02d}.nii.gz")
    save_weights(folder / "runs" / "smoke" / "weights.npz", params, smoke.network)
    shutil.copy(ROOT / "docs" / "cascade" / "weights.npz", folder / "docs" / "cascade")
    return folder


def write_dicom(folder, volume, number):
    """Writes an image as a DICOM series of that number."""
    stored = np.rint(volume.data[::-1, ::-1] + 1024).astype(np.int16)  # columns to the left
    corner = volume.world_from_voxel(np.array([[*np.array(volume.shape[:2]) - 1, 0]]))[0]
    x, y, z = corner * (-1, -1, 1)
    positions = [(x, y, z + k * volume.spacing_mm[2]) for k in range(volume.shape[2])]
    uid = {"series": f"1.2.{number}", "number": number, "spacing": volume.spacing_mm[:2]}
    uid["FrameOfReferenceUID"] = "1.2.3.9"
    write_series(folder, positions, stored=stored, **uid)


@pytest.fixture(scope="module")
def done():
    """Commands that have run."""
    return set()


@pytest.fixture
def folder(data, monkeypatch):
    """The working folder of the commands."""
    monkeypatch.chdir(data)
    return data


def words(command):
    """The words of a command after `jaxreg`, file names with * expanded."""
    found = shlex.split(command)[1:]
    return [file for word in found for file in (sorted(glob.glob(word)) or [word])]


def parse(command):
    """Parses a command of jaxreg; unknown options and missing arguments raise."""
    kind, *more = words(command)
    assert kind in COMMANDS, command
    importlib.import_module(f"jaxreg.cli.{kind}").command.make_context(kind, list(more))


def registers(kind, more):
    """Whether a command registers two images, so that it takes SMALL."""
    return kind == "register" or (kind == "ventilation" and not Path(more[0]).is_dir())


def of_jaxreg(page):
    return [line for line in commands(page) if line.startswith("jaxreg ")]


DOCUMENTED = [page for page in PAGES if of_jaxreg(page)]
WITH_PYTHON = [page for page in PAGES if any(block.language == "python" for block in blocks(page))]


@pytest.mark.slow
@pytest.mark.parametrize("page", DOCUMENTED, ids=name)
def test_commands_run(page, folder, done, capsys):
    written = []
    for command in of_jaxreg(page):
        parse(command)
        kind, *more = words(command)
        if kind in PARSED:
            continue
        files = [word for word in more if Path(word).exists()]
        other = [file for file in files if not file.startswith((*THERE, *written))]
        out = more[more.index("--out") + 1] if "--out" in more else None
        assert not set(other) - {out}, f"{command}: made on another page"
        if out:
            written.append(out)
        if command not in done:
            status = main(arguments=[kind, *more, *(SMALL if registers(kind, more) else [])])
            assert status == 0, f"{command}: {capsys.readouterr().err}"
        done.add(command)


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_PYTHON, ids=name)
def test_python_blocks_run(page, folder, params, monkeypatch):
    known = functools.partial(jaxreg.Registration.load, "demo")
    monkeypatch.setattr(jaxreg, "register_volumes", known)
    smaller = functools.partial(jaxreg.register_series, config=CONFIG)
    monkeypatch.setattr(jaxreg, "register_series", smaller)
    networks = functools.partial(jaxreg.register, params=params, config=smoke.network)
    monkeypatch.setattr(jaxreg, "register", networks)
    python = [block for block in blocks(page) if block.language == "python"]
    run = [block for block in python if not block.text.startswith(NOT_RUN)]
    namespace = {}
    for block in run:
        exec(compile(block.text, name(page), "exec"), namespace)
    made = {n: v for n, v in namespace.items() if n != "__builtins__"}
    assert bool(made) == bool(run)
    for array in (getattr(value, "data", value) for value in made.values()):
        if isinstance(array, np.ndarray | jax.Array) and array.dtype.kind == "f":
            assert np.isfinite(array).all()


def test_configurations_that_are_named_exist():
    named = [shlex.split(line) for page in DOCUMENTED for line in of_jaxreg(page)]
    named = [w[w.index("--config") + 1] for w in named if w[1] == "train" and "--config" in w]
    assert len(named) > 5
    for config in named:
        assert config == "mine.py" or config_path(config).is_file()


def extras_exist(line):
    extras = re.search(r"\[([\w,]+)\]", line)
    known = tomllib.loads(read(ROOT / "pyproject.toml"))["project"]["optional-dependencies"]
    return extras is None or set(extras[1].split(",")) <= set(known)


def target_exists(line):
    return re.search(rf"^{line.split()[1]}:", read(ROOT / "Makefile"), re.MULTILINE)


def script_exists(line):
    """Whether the script is there, and knows the options."""
    _, script, *more = line.split()
    text = read(ROOT / script) + read(ROOT / "benchmarks" / "harness.py")
    return all(f'"{word}"' in text for word in more if word.startswith("--"))


KINDS = {  # lines of commands that are not jaxreg's, and what must hold of them
    "pip install": extras_exist,
    "make ": target_exists,
    "python benchmarks/": script_exists,
    "python3 -m venv": lambda line: True,
    ". .venv/bin/activate": lambda line: True,
}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_other_lines_name_what_exists(page):
    for line in commands(page):
        if not line.startswith("jaxreg "):
            kind = next((kind for kind in KINDS if line.startswith(kind)), None)
            assert kind, f"{line}: a line of another kind; name the language of its block"
            assert KINDS[kind](line), line


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_in_the_text_exist(page):
    for code in re.findall(r"`([^`]*)`", prose(page)):
        if code.startswith("jaxreg "):
            kind, *more = code.split()[1:] or [""]
            if kind in ("COMMAND", ""):
                continue
            assert kind in COMMANDS, code
            command = importlib.import_module(f"jaxreg.cli.{kind}").command
            known = {name for param in command.params for name in (*param.opts, "--help")}
            assert {word for word in more if word.startswith("--")} <= known, code

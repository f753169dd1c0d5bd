import gzip
import json
import re
import subprocess
import sys

import click
import nibabel
import numpy as np
import pytest

from jaxreg.cli import options
from jaxreg.cli.app import COMMANDS, main
from jaxreg.cli.progress import stages
from jaxreg.config import LungGridConfig, RegistrationConfig, override, registration_from_dict
from jaxreg.geometry.volume import Volume
from jaxreg.io.nifti import read_displacement, read_volume, write_volume
from jaxreg.io.points import read_landmarks
from jaxreg.phantom.pair import phantom_pair


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    pair = phantom_pair(3, shape=(60, 48, 52), spacing_mm=(6.0, 6.0, 6.0))
    for name in ("fixed", "moving"):
        write_volume(folder / f"{name}.nii.gz", getattr(pair, name))
        labels = getattr(pair, f"{name}_labels")
        write_volume(folder / f"{name}_mask.nii.gz", labels)
    return folder


def run(*arguments):
    return main(arguments=[str(a) for a in arguments])


def test_register_writes_its_files(files, tmp_path, capsys):
    status = run(
        "register", files / "fixed.nii.gz", files / "moving.nii.gz",
        "--fixed-mask", files / "fixed_mask.nii.gz", "--moving-mask", files / "moving_mask.nii.gz",
        "--method", "affine", "--out", tmp_path / "out", "--json", "--verbose",
        "--field-spacing", 12,
    )  # fmt: skip
    assert status == 0
    field = read_displacement(tmp_path / "out" / "displacement.nii.gz")
    assert field.data.shape == (31, 25, 27, 3)  # 60 x 48 x 52 voxels of 6 mm
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    printed = capsys.readouterr()
    assert json.loads(printed.out) == summary
    stages = ["reading", *summary["seconds"], "writing"]
    assert re.sub(r" \d+\.\d s", "", printed.err).splitlines() == stages
    assert summary["method"] == "affine"
    assert (tmp_path / "out" / "report.png").stat().st_size > 10_000


@pytest.mark.parametrize(("strict", "status"), [([], 0), (["--strict"], 3)])
def test_what_is_doubtful_is_a_line_and_a_code(files, tmp_path, capsys, strict, status):
    mask = read_volume(files / "moving_mask.nii.gz")
    right = Volume(np.where(mask.data < 4, mask.data, 0), mask.affine)
    write_volume(tmp_path / "right.nii.gz", right)
    found = run(
        "register", files / "fixed.nii.gz", files / "moving.nii.gz",
        "--fixed-mask", files / "fixed_mask.nii.gz", "--moving-mask", tmp_path / "right.nii.gz",
        "--method", "affine", "--out", tmp_path / "out", "--quiet", *strict,
    )  # fmt: skip
    assert found == status
    printed = capsys.readouterr()
    assert "correlation in the lungs" in printed.out
    errors = printed.err.splitlines()
    assert "warning: the left lung is in the fixed image but not in the moving one." in errors[0]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert len(summary["warnings"]) == len(errors)
    assert summary["warnings"][0]["code"] == "lung-in-one-image"
    assert summary["warnings"][0]["lung"] == "left"
    for name in ("quality", "valid"):
        assert (tmp_path / "out" / f"{name}.nii.gz").exists()


def test_keypoints_writes_a_csv_in_the_space_asked_for(files, tmp_path, capsys):
    out = tmp_path / "new" / "points.csv"
    status = run(
        "keypoints", files / "fixed.nii.gz", files / "moving.nii.gz", "--out", out,
        "--fixed-mask", files / "fixed_mask.nii.gz", "--moving-mask", files / "moving_mask.nii.gz",
        "--space", "LPS", "--json", "--set", "grid.shape=[96, 80, 96]",  # for speed
    )  # fmt: skip
    assert status == 0
    told = json.loads(capsys.readouterr().out)
    assert out.read_text(encoding="utf-8").startswith("# space: LPS\n")
    points = read_landmarks(out)
    assert len(points.fixed) == told["keypoints"] > 100 and told["seconds"] > 0
    assert set(points.kind) == {"keypoint"}
    for name in ("fixed", "moving"):
        lungs = read_volume(files / f"{name}_mask.nii.gz")
        voxels = np.rint(lungs.voxel_from_world(getattr(points, name))).astype(int)
        assert np.mean(lungs.data[tuple(voxels.T)] > 0) > 0.9


@pytest.fixture
def given(monkeypatch):
    """Replaces the work of the commands; holds the settings that they were called with."""
    calls = []

    def work(*_, config, **__):
        calls.append(config)
        raise ValueError("done.")

    monkeypatch.setattr("jaxreg.pipeline.registration.register_volumes", work)
    monkeypatch.setattr("jaxreg.pipeline.keypoints.match_volumes", work)
    return calls


def call(command, files, out, *more):
    pair = [files / "fixed.nii.gz", files / "moving.nii.gz"]
    return run(command, *pair, "--out", out / ("out" if command == "register" else "p.csv"), *more)


@pytest.mark.parametrize("command", ["register", "keypoints"])
def test_settings_come_from_a_file_and_single_ones_win(files, tmp_path, given, command):
    path = tmp_path / "settings.json"
    tree = {"optimiser": {"smoothness": 2.0, "radius": 3}, "lungs": {"minimum_ml": 30}}
    expected = override(registration_from_dict(tree), "optimiser.smoothness=0.5")
    for content in (tree, {"method": "classical", "config": tree}):  # alone, or a summary.json
        path.write_text(json.dumps(content), encoding="utf-8")
        call(command, files, tmp_path, "--config", path, "--set", "optimiser.smoothness=0.5")
        assert given.pop() == expected
    call(command, files, tmp_path, "--set", "grid.shape=[64, 48, 56]")
    assert given.pop() == RegistrationConfig(grid=LungGridConfig((64, 48, 56)))


@pytest.mark.parametrize("command", ["register", "keypoints"])
@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--set", "optimiser.radius"], "set: expected KEY=VALUE, got 'optimiser.radius'. Example"),
        (["--set", "optimizer.radius=3"], "set: unknown group 'optimizer'. Did you mean opt"),
        (["--set", "optimiser.smoothnes=3"], "config.optimiser: unknown key 'smoothnes'. Did you "),
        (["--set", "optimiser.sigma=3"], "config.optimiser: unknown key 'sigma'. Known keys: "),
        (["--set", "optimiser.radius=2.5"], "config.optimiser.radius: expected a whole number"),
        (["--set", "optimiser.radius=0"], "radius: expected a number above 0, got 0. Leave it"),
        (["--config", "no.json"], "config: expected a JSON file, got no.json, which is not"),
        (["--config", '[1, 2]'], "expected a mapping of settings, got [1, 2]."),
        (["--config", '{"grids": {}}'], "unknown key 'grids'. Did you mean grid? K"),
        (["--config", '{"grid": {"shape": 64}}'], ".grid.shape: expected a list (3 values, each a"),
        (["--config", "grid = 64"], "expected JSON, got 'grid = 64' (Expecting value"),
    ],
)  # fmt: skip
def test_settings_that_do_not_exist_are_named(
    files, tmp_path, given, capsys, monkeypatch, command, words, text
):
    monkeypatch.chdir(tmp_path)
    option, value = words
    if option == "--config" and value != "no.json":
        (tmp_path / "settings.json").write_text(value, encoding="utf-8")
        value, text = "settings.json", f"config settings.json{'' if text[0] == '.' else ': '}{text}"
    assert call(command, files, tmp_path, option, value) == 1
    assert capsys.readouterr().err.startswith(f"jaxreg: {text}")
    assert not given


def test_keypoints_in_a_folder_are_refused_before_the_work(files, tmp_path, capsys):
    status = run("keypoints", files / "no.nii.gz", files / "no.nii.gz", "--out", tmp_path)
    assert status == 1
    assert "--out: expected a CSV file, got the folder" in capsys.readouterr().err


def bad(files, tmp_path, kind):
    """The arguments of a call that cannot succeed."""
    fixed, moving, out = files / "fixed.nii.gz", files / "moving.nii.gz", tmp_path / "out"
    image = nibabel.load(fixed)
    broken = tmp_path / "broken.nii.gz"
    data = image.get_fdata(dtype=np.float32)
    more = []
    match kind:
        case "missing":
            fixed = tmp_path / "no.nii.gz"
        case "nan":
            data[3, 4, 5] = np.nan
        case "constant":
            data[:] = -700.0
        case "2-D":
            data = data[:, :, 3]
        case "4-D":
            data = np.stack([data, data], axis=-1)
        case "truncated":
            broken.write_bytes(fixed.read_bytes()[:5000])
        case "not an image":
            broken.write_bytes(gzip.compress(b"hello" * 100))
        case "empty mask" | "other grid":
            mask = np.full(image.shape, kind == "other grid", np.uint8)
            matrix = image.affine.copy()
            matrix[0, 3] += 1000.0 * (kind == "other grid")
            write_volume(tmp_path / "mask.nii.gz", Volume(mask, matrix))
            more = ["--fixed-mask", tmp_path / "mask.nii.gz"]
        case "no lungs":
            data = np.where(data < -300.0, 40.0, data).astype(np.float32)
            data[:4] = -1000.0
        case "tiny":
            data = data[:4, :4, :4]
        case "weights":
            (tmp_path / "w.npz").write_bytes(b"not weights")
            more = ["--weights", tmp_path / "w.npz", "--method", "cascade"]
        case "out":
            (tmp_path / "file").write_text("", encoding="utf-8")
            out = tmp_path / "file" / "out"
    if kind in ("nan", "constant", "2-D", "4-D", "no lungs", "tiny"):
        nibabel.save(nibabel.Nifti1Image(data, image.affine), broken)
    if broken.exists():
        fixed = broken
    return ["register", fixed, moving, "--out", out, "--quiet", *more], out


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "no.nii.gz"),
        ("nan", "NaN"),
        ("constant", "expected a CT image, got the value -700 in every voxel"),
        ("2-D", "2-D|3-D"),
        ("4-D", "4-D|3-D"),
        ("truncated", "broken.nii.gz"),
        ("not an image", "broken.nii.gz"),
        ("empty mask", "fixed_mask: expected lungs, got no voxel above 0"),
        ("other grid", "mask.nii.gz: expected labels that overlap with the image"),
        ("no lungs", "fixed: .*lung"),
        ("tiny", "fixed: .*lung"),
        ("weights", "w.npz: expected"),
        ("out", "--out: expected a folder that can be written"),
    ],
)
def test_bad_input_ends_with_one_line_and_no_file(files, tmp_path, capsys, kind, words):
    arguments, out = bad(files, tmp_path, kind)
    assert run(*arguments) == 1
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and printed.err.startswith("jaxreg: ")
    assert re.search(words, printed.err), printed.err
    assert not out.exists() or not list(out.iterdir()), "something was left half-done"


def test_unknown_command_shows_the_usage():
    done = subprocess.run(
        [sys.executable, "-m", "jaxreg", "align"],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 2 and done.stderr.startswith("Usage: jaxreg")
    assert "No such command 'align'" in done.stderr


def test_a_command_that_is_misspelt_is_named(capsys):
    assert run("regsiter", "a", "b") == 2
    assert "No such command 'regsiter'. Did you mean register?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("summary", "told"),
    [
        ('{"images": {"fixed": {"name": "a"}, "moving": {"name": "b"}}}', " (fixed: a; moving: b)"),
        ('{"method": "classical"}', ""),  # of an older version
        ("[]", ""),
    ],
)
def test_a_result_that_is_replaced_is_told_before_the_work(
    files, tmp_path, given, capsys, summary, told
):
    out = tmp_path / "out"
    out.mkdir()
    (out / "summary.json").write_text(summary, encoding="utf-8")
    call("register", files, tmp_path)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"replacing the result in {out}{told}"
    call("register", files, tmp_path, "--quiet")
    assert "replacing" not in capsys.readouterr().err


HEAVY = ("jax", "flax", "orbax", "matplotlib", "scipy", "nibabel", "rich")


@pytest.mark.parametrize(
    "code",
    [
        "import jaxreg",
        "from jaxreg.cli.app import main; main(arguments=['--help'])",
        *(f"from jaxreg.cli.app import main; main(arguments=['{c}', '--help'])" for c in COMMANDS),
    ],
)
def test_import_and_help_are_light(code):
    code = f"import sys; {code}; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_lists_every_command(capsys):
    assert run("--help") == 0
    listed = capsys.readouterr().out.split("Commands:")[1].split("\n")
    assert [line.split()[0] for line in listed if line.strip()] == list(COMMANDS)


def test_values_in_a_row_are_those_of_one_option():
    """As argparse's nargs="+" reads them, which click has not."""
    taken = {}

    @click.command(cls=options.ManyValues)
    @click.option("--name", multiple=True)
    @click.option("--out")
    @click.option("--flag", is_flag=True)
    def command(**values):
        taken.update(values)

    words = ["--name", "a", "b", "--out", "c", "--name=d", "e", "--flag"]
    command.main(words, standalone_mode=False)
    assert taken == {"name": ("a", "b", "d", "e"), "out": "c", "flag": True}
    with pytest.raises(click.UsageError, match="unexpected extra argument"):
        command.main(["--out", "a", "b"], standalone_mode=False)


def test_the_compilation_cache_is_the_users_unless_one_is_set(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    code = (
        "import jax; from jaxreg.cli.compilation import keep_compiled_programs as keep; keep(); "
        "print(jax.config.jax_compilation_cache_dir)"
    )
    command = [sys.executable, "-c", code]
    for own in (None, str(tmp_path / "own")):
        monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
        if own:
            monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", own)
        done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
        assert done.stdout.strip() == (own or str(tmp_path / "jaxreg"))


def test_stages_are_told_on_a_terminal_alone(monkeypatch, capsys):
    def shown(*, terminal, quiet=None, told=""):
        monkeypatch.setenv("TTY_COMPATIBLE", "1" if terminal else "0")
        monkeypatch.setenv("FORCE_COLOR", "1" if terminal else "")
        with stages(quiet=quiet, told=told) as stage:
            stage("reading")
            stage("registering")
        return capsys.readouterr().err

    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown(terminal=True))
    assert re.search(r"reading 0\.\d s", text) and re.search(r"registering 0\.\d s", text)
    assert shown(terminal=True, quiet=True) == "" == shown(terminal=False)
    assert shown(terminal=False, told="a minute ...") == "a minute ...\n"
    assert shown(terminal=False, told="a minute ...", quiet=True) == ""
    assert "minute" not in shown(terminal=False, told="a minute ...", quiet=False)
    text = shown(terminal=False, quiet=False)
    assert re.fullmatch(r"reading 0\.\d s\nregistering 0\.\d s\n", text)

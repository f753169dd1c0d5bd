import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from training_pairs import write_anatomies, write_pairs

from jaxreg.config import load_config
from jaxreg.configs import config_path
from jaxreg.network.weights import load_named
from jaxreg.training import run

ROOT = Path(__file__).resolve().parents[1]
CONFIG = """
from jaxreg.config import Config, LossConfig, NetworkConfig, TrainingConfig
config = Config(
    network=NetworkConfig(grid=(32, 32, 32), levels=2, widths=(4,), convs=1),
    loss=LossConfig(keypoints=(1.0, 1.0), volume_threshold=(0.1, 0.1)),
    training=TrainingConfig(steps=(8, {steps}), batch=(1, 1), blocks=(1, 1),
                            subjects=2, validation_pairs=1,
                            log_every=2, checkpoint_every=4),
)
"""


def command(tmp_path, workdir, *more):
    return [
        sys.executable,
        str(ROOT / "train.py"),
        "--config",
        str(tmp_path / "config.py"),
        "--workdir",
        str(workdir),
        *more,
    ]


def prepare(tmp_path, workdir, steps=8):
    (tmp_path / "config.py").write_text(CONFIG.format(steps=steps), encoding="utf-8")
    write_anatomies(workdir / "anatomies", [0, 1, 10_000_000])
    write_pairs(workdir / "pairs", [10_000_000])


def final_arrays(workdir):
    with np.load(workdir / "weights.npz") as file:
        return {name: file[name] for name in file.files}


@pytest.mark.slow
def test_killed_and_restarted_run_ends_with_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # compiles in half of the time
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    prepare(tmp_path, straight, steps=40)
    prepare(tmp_path, broken, steps=40)
    done = subprocess.run(
        command(tmp_path, straight, "--level", "1..2"), capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr[-2000:]

    process = subprocess.Popen(
        command(tmp_path, broken, "--level", "1..2"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 300
    while not (broken / "level_2" / "checkpoints" / "8").is_dir():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (broken / "weights.npz").exists(), "the run ended before it was killed"

    done = subprocess.run(
        command(tmp_path, broken, "--level", "1..2"), capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "resumed after step" in done.stderr
    one, other = final_arrays(straight), final_arrays(broken)
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[name], other[name]) for name in one)
    logs = [
        (w / "level_2" / "log.jsonl").read_text(encoding="utf-8").splitlines()
        for w in (straight, broken)
    ]
    steps = [[json.loads(line)["step"] for line in log] for log in logs]
    assert steps[0] == steps[1], "the log of a resumed run has each interval once"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--level", "4"), "--level: expected 1 to 2, got"),
        (("--level", "two"), "expected a level or a range like 1..3, got 'two'"),
        (("--level", "1"), "level 2: expected a trained level in"),
        (("--data", "nowhere.json"), "nowhere.json"),
    ],
)
def test_wrong_calls_end_with_one_line(tmp_path, more, words):
    prepare(tmp_path, tmp_path / "run")
    done = subprocess.run(
        command(tmp_path, tmp_path / "run", *more), capture_output=True, encoding="utf-8"
    )
    assert done.returncode != 0
    assert words in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_misspelt_setting_is_named(tmp_path):
    prepare(tmp_path, tmp_path / "run")
    (tmp_path / "config.py").write_text(
        "from jaxreg.config import Config, LossConfig\n"
        "config = Config(loss=LossConfig(smoothnes=1.0))\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        command(tmp_path, tmp_path / "run"), capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 1
    assert "smoothnes" in done.stderr and "Traceback" not in done.stderr


def test_without_validation_no_pair_of_a_manifest_is_held_out(tmp_path, monkeypatch):
    """What is trained on must not choose the checkpoint."""
    files = {name: write_pairs(tmp_path / name, [k]) for k, name in enumerate(("own", "other"))}
    monkeypatch.setattr(run, "prepare_manifest", lambda _, manifest, **__: files[manifest.stem])
    config = load_config(config_path("smoke"))
    source, validation, labels = run.prepare_data(config, tmp_path, data="own.json")
    assert validation == {} and labels == 2
    assert source.names == [path.name for path in files["own"]]
    _, validation, _ = run.prepare_data(
        config, tmp_path, data="own.json", validation=Path("other.json")
    )
    assert validation == {"validation": files["other"]}


def test_a_start_of_another_network_is_refused_before_data_are_prepared(tmp_path):
    config = load_config(config_path("smoke"))
    with pytest.raises(
        ValueError,
        match=r"--start paper: expected a network as .*got another: grid is .*own",
    ):
        run.train(config, tmp_path / "work", start="paper")
    assert not (tmp_path / "work").exists()


def test_weights_of_one_level_trained_on_are_whole(tmp_path, monkeypatch):
    """The coarser and the finer level are those of the start."""
    config = load_config(config_path("paper_stream"))
    start, _ = load_named("paper")
    trained = jax.tree.map(lambda a: a + 1.0, start["level_2"])
    monkeypatch.setattr(run, "prepare_data", lambda *_, **__: (None, {}, 5))
    monkeypatch.setattr(run, "train_level", lambda *_, **__: trained)
    tmp_path.joinpath("work").mkdir()
    run.train(config, tmp_path / "work", levels=[2], start="paper")
    found, network = load_named(tmp_path / "work" / "weights.npz")
    assert network == config.network
    expected = {**start, "level_2": trained}
    assert jax.tree.all(jax.tree.map(np.array_equal, found, expected))

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_pairs import GRID, blob_pair, write_pairs

from jaxreg.config import Config, LossConfig, NetworkConfig, TrainingConfig
from jaxreg.training import checkpoint
from jaxreg.training.blocks import block_shape, random_block
from jaxreg.training.loop import (
    _block_and_displacement,
    coarser_params,
    displacement_at,
    initial_state,
    make_step,
    make_validation,
    train_level,
)
from jaxreg.training.pairs import batches, example_at
from jaxreg.training.sources import pairs_source

pytestmark = pytest.mark.usefixtures("quick_compilation")

CONFIG = Config(
    network=NetworkConfig(grid=GRID, levels=3, widths=(4, 8), convs=1),
    loss=LossConfig(),
    training=TrainingConfig(
        steps=(2, 4, 6), subjects=2, validation_pairs=1, log_every=1, checkpoint_every=2
    ),
)


def example(seed, level):
    return example_at(blob_pair(seed), level=level, labels=2)


def source(paths):
    return pairs_source(CONFIG, paths, labels=2)


def leaves_equal(a, b):
    return jax.tree.all(jax.tree.map(np.array_equal, a, b))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A work folder in which levels 3 and 2 are trained, and the parameters of both."""
    workdir = tmp_path_factory.mktemp("trained")
    paths = write_pairs(workdir / "pairs", (0, 1))
    data = dict(
        workdir=workdir, source=source(paths), validation={"validation": paths[:1]}, labels=2
    )
    params = {3: train_level(CONFIG, 3, **data)}
    before = thumbnail(workdir / "level_3")
    params[2] = train_level(CONFIG, 2, **data)
    assert thumbnail(workdir / "level_3") == before, "training level 2 touched level 3"
    return workdir, data, params


def thumbnail(folder):
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(
    "level", [3, pytest.param(2, marks=pytest.mark.slow), pytest.param(1, marks=pytest.mark.slow)]
)
def test_loss_falls_at_every_level(level):
    config = dataclasses.replace(
        CONFIG,
        training=dataclasses.replace(CONFIG.training, steps=(100, 100, 100), learning_rate=3e-3),
    )
    coarser = {f"level_{c}": initial_state(config, c).params for c in range(3, level, -1)}
    step, state = make_step(config, level, augmented=False), initial_state(config, level)
    batch, losses = jax.tree.map(lambda a: a[None], example(0, level)), []
    for _ in range(25):
        state, measured = step(state, coarser, batch)
        losses.append(float(measured["loss"]))
    assert losses[-1] < 0.9 * losses[0]
    assert int(state.step) == 25


def test_a_batch_makes_no_grouped_convolution_for_a_gpu():
    config = dataclasses.replace(
        CONFIG, training=dataclasses.replace(CONFIG.training, batch=(2, 2, 2))
    )
    batch = jax.tree.map(lambda *a: jnp.stack(a), *(example(seed, 3) for seed in range(2)))
    step = make_step(config, 3, augmented=False)
    lowered = jax.export.export(step, platforms=("cuda",))(initial_state(config, 3), {}, batch)
    groups = re.findall(r"(?:feature|batch)_group_count = (\d+)", lowered.mlir_module())
    assert groups and set(groups) == {"1"}


def test_example_at_a_level_keeps_millimetres():
    pair = blob_pair(3)
    for level in (1, 2, 3):
        example = example_at(pair, level=level, labels=2)
        assert example.fixed.shape == tuple(n // 2 ** (level - 1) for n in GRID)
        extent = np.array(example.fixed.shape) * np.asarray(example.spacing_mm)
        assert np.allclose(extent, np.array(GRID) * pair.spacing_mm)
        # millimetres from the outer corner of the grid, which all levels share
        corner_mm = (np.asarray(example.fixed_keypoints) + 0.5) * np.asarray(example.spacing_mm)
        assert np.allclose(corner_mm, (pair.fixed_keypoints + 0.5) * pair.spacing_mm, atol=1e-3)
        assert np.allclose(example.fixed_labels.sum(axis=-1), example.mask)


def test_a_block_is_the_same_part_of_everything():
    pair = example(4, 1)
    whole = jnp.arange(np.prod(GRID) * 3, dtype=jnp.float32).reshape(*GRID, 3)
    shape = block_shape((32, 31, 32), 3)
    assert shape == (11, 11, 11)
    starts = []
    for seed in range(30):
        block, u = random_block(jax.random.key(seed), pair, whole, 3)
        index = int(u[0, 0, 0, 0]) // 3
        start = np.array(np.unravel_index(index, GRID))
        starts.append(start)
        part = tuple(slice(n, n + 11) for n in start)
        assert np.array_equal(u, whole[part])
        for name in ("fixed", "moving", "mask", "fixed_labels", "moving_labels"):
            assert np.array_equal(getattr(block, name), getattr(pair, name)[part]), name
        assert np.allclose(block.fixed_keypoints + start[None], pair.fixed_keypoints, atol=1e-4)
        assert np.allclose(block.moving_keypoints + start[None], pair.moving_keypoints, atol=1e-4)
        inside = np.all((block.fixed_keypoints >= 0) & (block.fixed_keypoints <= 10), axis=-1)
        assert np.array_equal(block.keypoint_weights, pair.keypoint_weights * inside)
    assert (np.min(starts, axis=0) < 6).all() and (np.max(starts, axis=0) > 15).all()


@pytest.mark.slow
def test_a_level_learns_from_blocks_with_the_coarser_levels_on_the_whole_grid():
    training = dataclasses.replace(
        CONFIG.training, steps=(100, 100, 100), blocks=(2, 1, 1), learning_rate=3e-3
    )
    config = dataclasses.replace(CONFIG, training=training)
    coarser = {f"level_{c}": initial_state(config, c).params for c in (3, 2)}
    pair = example(0, 1)
    key = jax.random.key(5)
    params = initial_state(config, 1).params
    block, u = _block_and_displacement(params, coarser, key, pair, 1, config)
    assert block.fixed.shape == u.shape[:3] == (16, 16, 16)
    # what the level adds is small at first, so the block of the coarser levels' field is seen
    before = displacement_at(params, coarser, pair, 1, config=config)
    _, cut = random_block(key, pair, before, 2)
    assert np.abs(u - cut).max() < 0.2

    step, state = make_step(config, 1, augmented=False), initial_state(config, 1)
    measure = make_validation(config, 1)
    batch = jax.tree.map(lambda a: a[None], pair)
    first = float(measure(state.params, coarser, pair)["tre_mm"])
    for _ in range(40):
        state, _ = step(state, coarser, batch)
    assert float(measure(state.params, coarser, pair)["tre_mm"]) < 0.9 * first


def test_only_the_level_in_training_is_differentiated():
    coarser = {"level_3": initial_state(CONFIG, 3).params}
    params = initial_state(CONFIG, 2).params

    def size(params, coarser):
        return jnp.sum(displacement_at(params, coarser, example(0, 2), 2, config=CONFIG) ** 2)

    own, frozen = jax.jit(jax.grad(size, argnums=(0, 1)))(params, coarser)
    assert max(float(jnp.abs(g).max()) for g in jax.tree.leaves(own)) > 0
    assert all(float(jnp.abs(g).max()) == 0 for g in jax.tree.leaves(frozen))


def test_finer_level_starts_from_the_coarser_ones_parameters(trained):
    _, _, params = trained
    state = initial_state(CONFIG, 2, params=params[3])
    assert leaves_equal(state.params, params[3])
    assert not leaves_equal(initial_state(CONFIG, 2).params, params[3])


def test_log_has_every_term_and_the_validation(trained):
    workdir, _, _ = trained
    lines = [
        json.loads(line)
        for line in (workdir / "level_3" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    steps = [line["step"] for line in lines if "loss" in line]
    assert steps == [1, 2, 3, 4, 5, 6]
    names = {"similarity", "smoothness", "volume", "masks", "keypoints", "gradient"}
    assert all(names <= set(line) for line in lines if "loss" in line)
    checks = [line for line in lines if "validation_tre_mm" in line]
    assert [line["step"] for line in checks] == [2, 4, 6]
    assert all(0 <= line["validation_folds"] <= 1 for line in checks)


def test_a_finished_level_is_not_trained_again(trained):
    workdir, data, params = trained
    before = thumbnail(workdir / "level_2" / "checkpoints")
    again = train_level(CONFIG, 2, **data)
    assert leaves_equal(again, params[2])
    assert thumbnail(workdir / "level_2" / "checkpoints") == before


def errors_held_out(monkeypatch, errors_mm):
    """Lets the validation find these errors, one after the other."""
    following = iter(errors_mm)
    measures = {"initial_mm": 4.0, "folds": 0.0}
    monkeypatch.setattr(
        "jaxreg.training.loop.make_validation",
        lambda *_: lambda *_: jax.tree.map(jnp.float32, measures | {"tre_mm": next(following)}),
    )


def test_parameters_that_did_best_on_the_pairs_held_out_are_kept(tmp_path, monkeypatch):
    paths = write_pairs(tmp_path / "pairs", (0, 1))
    errors_held_out(monkeypatch, [3.0, 1.0, 2.0])  # after steps 2, 4 and 6
    data = dict(source=source(paths), validation={"held out": paths[:1]}, labels=2)
    found = train_level(CONFIG, 3, workdir=tmp_path, **data)
    template = initial_state(CONFIG, 3)
    with checkpoint.manager(tmp_path, 3) as checkpoints:
        (fourth, *_), (last, best, _) = (
            checkpoint.restore(checkpoints, step, template) for step in (4, 6)
        )
    assert leaves_equal(found, fourth.params) and not leaves_equal(found, last.params)
    assert (best.error_mm, best.step) == (1.0, 4) and leaves_equal(best.params, found)
    again = train_level(CONFIG, 3, workdir=tmp_path, **data)
    finer = coarser_params(CONFIG, 2, workdir=tmp_path)
    assert leaves_equal(again, found) and leaves_equal(finer["level_3"], found)


def test_without_pairs_held_out_the_last_parameters_are_kept(tmp_path):
    paths = write_pairs(tmp_path / "pairs", (0,))
    found = train_level(CONFIG, 3, workdir=tmp_path, source=source(paths), validation={}, labels=2)
    with checkpoint.manager(tmp_path, 3) as checkpoints:
        last, best, _ = checkpoint.restore(checkpoints, 6, initial_state(CONFIG, 3))
    assert best.step == 6 and leaves_equal(found, last.params)


def test_a_checkpoint_without_its_best_is_refused(tmp_path):
    state = initial_state(CONFIG, 3)
    with checkpoint.manager(tmp_path, 3) as checkpoints:
        best = checkpoint.Best(state.params, 1.5, 1)
        checkpoint.save(checkpoints, 2, state, best, {"next_index": 1})
        shutil.rmtree(tmp_path / "level_3" / "checkpoints" / "2" / "best")
        with pytest.raises(ValueError, match=r"2: expected a checkpoint .* \(no folder best\)"):
            checkpoint.restore(checkpoints, 2, state)


@pytest.mark.parametrize("damaged", [(), (4,), (2, 4)])
def test_training_goes_on_from_the_latest_checkpoint_that_can_be_read(tmp_path, caplog, damaged):
    state = initial_state(CONFIG, 3)
    folder = tmp_path / "level_3" / "checkpoints"
    with checkpoint.manager(tmp_path, 3) as checkpoints:
        assert checkpoint.restore_latest(checkpoints, state) is None
        for step in (2, 4):
            best = checkpoint.Best(state.params, float(step), step)
            checkpoint.save(checkpoints, step, state, best, {"next_index": step})
        for step in damaged:
            halve_files(folder / str(step))
        if len(damaged) == 2:
            with pytest.raises(ValueError, match="4: expected a checkpoint of this network") as e:
                checkpoint.restore_latest(checkpoints, state)
            assert "\n" not in str(e.value)
            assert (folder / "2").is_dir() and (folder / "4").is_dir()
            return
        found = checkpoint.restore_latest(checkpoints, state)
        assert found is not None
        step = 2 if damaged else 4
        assert (found[0], found[2].error_mm, found[3]) == (step, step, {"next_index": step})
        assert leaves_equal(found[1], state)
        assert ("Training goes on from step 2" in caplog.text) == bool(damaged)
        checkpoint.save(
            checkpoints, 4 if damaged else 6, state, found[2], {}
        )  # nothing is in the way
        assert checkpoints.latest_step() == (4 if damaged else 6)


def halve_files(folder):
    for file in folder.rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def test_missing_coarser_level_is_refused(tmp_path):
    paths = write_pairs(tmp_path / "pairs", (0,))
    with pytest.raises(
        ValueError, match="level 3: expected a trained level in .*level_3, got none"
    ):
        train_level(CONFIG, 2, workdir=tmp_path, source=source(paths), validation={}, labels=2)
    assert not (tmp_path / "level_2").exists()


def test_unfinished_coarser_level_is_refused(trained, tmp_path):
    workdir, data, _ = trained
    shutil.copytree(workdir / "level_3", tmp_path / "level_3")
    plan = json.loads((tmp_path / "level_3" / "plan.json").read_text(encoding="utf-8"))
    assert plan["steps"] == 6
    (tmp_path / "level_3" / "plan.json").write_text(
        json.dumps(plan | {"steps": 12}), encoding="utf-8"
    )
    with pytest.raises(ValueError, match="level 3: expected 12 training steps in .*, got 6"):
        train_level(CONFIG, 2, **data | {"workdir": tmp_path})


def test_resuming_with_other_pairs_is_refused(trained):
    workdir, data, _ = trained
    with pytest.raises(ValueError, match="expected the pairs that this level was begun with"):
        train_level(CONFIG, 2, **data | {"source": source([workdir / "pairs" / "phantom_0.npz"])})


@pytest.mark.slow
def test_a_level_goes_on_from_weights_and_takes_coarser_ones_from_them(trained, tmp_path):
    _, data, params = trained
    start = {f"level_{level}": params[min(level + 1, 3)] for level in (1, 2, 3)}
    rate = dataclasses.replace(CONFIG.training, learning_rate=1e-12)
    config = dataclasses.replace(CONFIG, training=rate)
    into = data | {"workdir": tmp_path}
    found = train_level(config, 1, **into, start=start)
    near = jax.tree.map(lambda a, b: np.allclose(a, b, atol=1e-9), found, params[2])
    assert jax.tree.all(near)
    coarser = coarser_params(config, 1, workdir=tmp_path, start=start)
    assert leaves_equal(coarser, {"level_2": params[3], "level_3": params[3]})


def test_a_training_that_only_harms_ends_with_what_it_began_with(trained, tmp_path, monkeypatch):
    _, data, params = trained
    start = {f"level_{level}": params[3] for level in (1, 2, 3)}
    errors_held_out(monkeypatch, [1.0, 3.0, 2.0, 1.5])
    found = train_level(CONFIG, 3, **data | {"workdir": tmp_path}, start=start)
    assert leaves_equal(found, params[3])
    log = (tmp_path / "level_3" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [line["step"] for line in map(json.loads, log) if "validation_tre_mm" in line]
    assert steps == [0, 2, 4, 6]


def test_a_level_trained_here_is_preferred_to_the_start(trained):
    workdir, _, params = trained
    start = {f"level_{level}": params[2] for level in (1, 2, 3)}
    coarser = coarser_params(CONFIG, 1, workdir=workdir, start=start)
    assert leaves_equal(coarser, {"level_2": params[2], "level_3": params[3]})


def test_another_start_than_before_is_refused(trained):
    _, data, params = trained
    start = {f"level_{level}": params[2] for level in (1, 2, 3)}
    with pytest.raises(ValueError, match=r"level_2: expected the --start .* \(none\), got another"):
        train_level(CONFIG, 2, **data, start=start)


def test_how_often_is_logged_may_change(trained):
    _, data, params = trained
    often = dataclasses.replace(CONFIG.training, log_every=5, checkpoint_every=3)
    again = train_level(dataclasses.replace(CONFIG, training=often), 2, **data)
    assert leaves_equal(again, params[2])


STEP_ON_DEVICES = """
import dataclasses, sys
sys.path.insert(0, sys.argv[1])
import jax, numpy as np
from test_training import CONFIG, example
from jaxreg.training.loop import initial_state, make_step, placements
config = dataclasses.replace(CONFIG, training=dataclasses.replace(CONFIG.training, batch=(4, 4, 4)))
batch = jax.tree.map(lambda *a: np.stack(a), *(example(seed % 3, 3) for seed in range(4)))
split, everywhere = placements(4)
assert len(split.device_set) == len(jax.devices())
state = jax.device_put(initial_state(config, 3), everywhere)
state, measured = make_step(config, 3, augmented=True)(state, {}, jax.device_put(batch, split))
# Adam's first moment is the gradient; its first step is only the sign of it, which rounding may
# turn where the gradient is next to nothing
leaves = jax.device_get(jax.tree.leaves((state.optimiser[0].mu, measured)))
np.savez(sys.argv[2], *leaves)
"""


@pytest.mark.slow
def test_a_batch_split_over_devices_gives_the_same_step(tmp_path):
    """In processes of their own, since the number of devices is settled when JAX starts."""
    found = []
    for count in (1, 4):
        path = tmp_path / f"{count}.npz"
        flags = {
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={count}",
            "JAX_PLATFORMS": "cpu",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # compiles in half of the time
        }
        done = subprocess.run(
            [sys.executable, "-c", STEP_ON_DEVICES, str(Path(__file__).parent), str(path)],
            capture_output=True,
            encoding="utf-8",
            env=os.environ | flags,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        with np.load(path) as arrays:
            found.append([arrays[name] for name in arrays.files])
    for one, other in zip(*found, strict=True):
        assert np.linalg.norm(one - other) <= 1e-3 * np.linalg.norm(one)


def test_coarser_level_of_other_settings_is_refused(trained):
    _, data, _ = trained
    other = dataclasses.replace(CONFIG, loss=LossConfig(smoothness=7.0))
    with pytest.raises(ValueError, match="loss.smoothness was .*, is 7.0.*--workdir"):
        train_level(other, 2, **data)


def test_damaged_checkpoint_is_refused(trained, tmp_path):
    workdir, _, _ = trained
    with checkpoint.manager(tmp_path, 3) as checkpoints:
        state = initial_state(CONFIG, 3)
        best = checkpoint.Best(state.params, 1.5, 1)
        checkpoint.save(checkpoints, 1, state, best, {"next_index": 1})
        halve_files(tmp_path / "level_3" / "checkpoints" / "1")
        with pytest.raises(ValueError, match="1: expected a checkpoint of this network, got dam"):
            checkpoint.restore(checkpoints, 1, state)


def test_not_finite_term_stops_with_step_and_name(tmp_path):
    paths = write_pairs(tmp_path / "pairs", (0,))
    pair = blob_pair(0)
    pair.fixed[3, 4, 5] = np.nan
    np.savez_compressed(paths[0], **pair._asdict())
    words = r"level 3: expected finite terms, got \w+ = nan at step 1"
    with pytest.raises(FloatingPointError, match=words):
        train_level(CONFIG, 3, workdir=tmp_path, source=source(paths), validation={}, labels=2)
    assert not list((tmp_path / "level_3").glob("checkpoints/[0-9]*"))


def test_order_of_pairs_is_kept_by_its_position(tmp_path):
    paths = write_pairs(tmp_path, range(5))
    stream = batches(paths, 2, labels=2, seed=1, batch=2)
    first = [next(stream).spacing_mm.shape for _ in range(3)]
    assert first == [(2, 3)] * 3
    position = stream.get_state()
    expected = [next(stream).fixed for _ in range(4)]
    other = batches(paths, 2, labels=2, seed=1, batch=2)
    other.set_state(position)
    assert all(np.array_equal(next(other).fixed, e) for e in expected)

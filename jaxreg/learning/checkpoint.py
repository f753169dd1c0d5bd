"""Checkpoints of a level in training: orbax for the arrays, JSON for settings and data position.

WORKDIR/level_3/config.json      settings, as given
WORKDIR/level_3/checkpoints/200  state and position after 200 steps; the last two are kept
WORKDIR/level_3/log.jsonl        one line an interval
"""

import dataclasses
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp

from jaxreg.config import PER_LEVEL, Config, from_json, to_json
from jaxreg.data.atomic import replacing

KEPT = 2


def level_folder(workdir: Path, level: int) -> Path:
    """Where a level is kept."""
    return workdir / f"level_{level}"


def manager(workdir: Path, level: int) -> ocp.CheckpointManager:
    """Orbax manager of a level's checkpoints; a save is whole on disk when it returns."""
    return ocp.CheckpointManager(
        (level_folder(workdir, level) / "checkpoints").absolute(),
        options=ocp.CheckpointManagerOptions(max_to_keep=KEPT, enable_async_checkpointing=False),
    )


def save(checkpoints: ocp.CheckpointManager, step: int, state: Any, position: dict) -> None:
    """Writes the state (a tree of arrays) and the position in the data after `step` steps."""
    checkpoints.save(
        step,
        args=ocp.args.Composite(
            state=ocp.args.StandardSave(state), position=ocp.args.JsonSave(position)
        ),
    )


def restore(checkpoints: ocp.CheckpointManager, step: int, template: Any) -> tuple[Any, dict]:
    """State and data position after `step` steps.

    Args:
        checkpoints: of the level.
        step: one of those kept.
        template: a tree of the same structure, shapes and types.

    Returns:
        The state and the position.

    Raises:
        ValueError: the files are damaged or belong to another network.
    """
    try:
        kept = checkpoints.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(template), position=ocp.args.JsonRestore()
            ),
        )
    except (ValueError, KeyError, OSError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{checkpoints.directory}: expected a checkpoint of this network at step {step}, got "
            f"damaged or other files ({reason}). Delete the folder of step {step} to go on from "
            "the one before, or use a new --workdir."
        ) from error
    return kept["state"], kept["position"]


def claim(workdir: Path, level: int, config: Config) -> None:
    """Writes the settings of a level, or checks that they are those it was begun with.

    Raises:
        ValueError: the level was begun with other settings; the text names them.
    """
    path = level_folder(workdir, level) / "config.json"
    if path.is_file():
        _require_same(path, config, level)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as target:
        target.write_text(to_json(config))


def finished_params(workdir: Path, level: int, config: Config, template: Any, steps: int) -> Any:
    """State of a level whose training is finished.

    Args:
        workdir: of the training.
        level: the level wanted.
        config: settings that it must have been trained with.
        template: a state of the same structure.
        steps: number of steps after which it is finished.

    Returns:
        The state.

    Raises:
        ValueError: not begun, not finished, or trained with other settings.
    """
    path = level_folder(workdir, level) / "config.json"
    fix = f"Train it first: python train.py --level {level} --workdir {workdir}, same --config."
    if not path.is_file():
        raise ValueError(
            f"level {level}: expected a trained level in {path.parent}, got none. {fix}"
        )
    _require_same(path, config, level)
    with manager(workdir, level) as checkpoints:
        step = checkpoints.latest_step() or 0
        if step < steps:
            raise ValueError(
                f"level {level}: expected {steps} training steps in {path.parent}, got {step}. "
                + fix
            )
        return restore(checkpoints, step, template)[0]


def _require_same(path: Path, config: Config, level: int) -> None:
    stored, given = (_settings(c, level) for c in (from_json(path.read_text()), config))
    other = [f"{k} was {stored[k]}, is {given[k]}" for k in given if stored[k] != given[k]]
    if other:
        raise ValueError(
            f"{path}: expected the settings that this level was begun with, got others: "
            f"{'; '.join(other)}. Use the former --config, or a new --workdir."
        )


def _settings(config: Config, level: int) -> dict[str, Any]:
    """Settings that the training of a level depends on, by dotted name."""
    settings = {
        f"{group}.{name}": value
        for group, values in dataclasses.asdict(config).items()
        for name, value in values.items()
    }
    return settings | {name: settings[name][level - 1] for name in PER_LEVEL}

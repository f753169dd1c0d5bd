"""Checkpoints of a level in training: orbax for the arrays, JSON for settings and data position.

WORKDIR/level_3/config.json      settings, as given
WORKDIR/level_3/checkpoints/200  the checkpoint after 200 steps; the latest two are kept
WORKDIR/level_3/log.jsonl        one line an interval
"""

import dataclasses
import json
import logging
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import orbax.checkpoint as ocp

from jaxreg.config import PER_LEVEL, Config, from_json, to_json
from jaxreg.io.atomic import replacing

KEPT = 2
log = logging.getLogger(__name__)
# Settings that may change between a run and its resumption: they do not change what is trained.
FREE = {"training.log_every", "training.checkpoint_every", "training.validation_pairs"}


def level_folder(workdir: Path, level: int) -> Path:
    """Returns the folder of a level.

    Args:
        workdir: of the training.
        level: 1 is the finest.

    Returns:
        The path.
    """
    return workdir / f"level_{level}"


def manager(workdir: Path, level: int) -> ocp.CheckpointManager:
    """Orbax manager of a level's checkpoints; a save is whole on disk when it returns.

    Args:
        workdir: of the training.
        level: 1 is the finest.

    Returns:
        The manager, to use in a `with` block.
    """
    return ocp.CheckpointManager(
        (level_folder(workdir, level) / "checkpoints").absolute(),
        options=ocp.CheckpointManagerOptions(max_to_keep=KEPT, enable_async_checkpointing=False),
    )


class Best(NamedTuple):
    """The parameters with the least error on validation pairs so far.

    Attributes:
        params: of the level.
        error_mm: mean error of the sets of pairs held out; 0 where there are none.
        step: after which they were measured.
    """

    params: Any
    error_mm: float
    step: int


def save(
    checkpoints: ocp.CheckpointManager, step: int, state: Any, best: Best, position: dict
) -> None:
    """Writes the checkpoint after `step` steps.

    Args:
        checkpoints: of the level.
        step: number of steps done.
        state: a tree of arrays, with `params` in it.
        best: so far.
        position: in the data.
    """
    record = {"data": position, "best": {"error_mm": best.error_mm, "step": best.step}}
    checkpoints.save(
        step,
        args=ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            best=ocp.args.StandardSave(best.params),
            position=ocp.args.JsonSave(record),
        ),
    )


def restore(checkpoints: ocp.CheckpointManager, step: int, template: Any) -> tuple[Any, Best, dict]:
    """Reads the checkpoint after `step` steps.

    Args:
        checkpoints: of the level.
        step: one of those kept.
        template: a state of the same structure, shapes and types.

    Returns:
        The state, the best so far and the position.

    Raises:
        ValueError: the files are damaged, incomplete or belong to another network.
    """
    items = {
        "state": ocp.args.StandardRestore(template),
        "best": ocp.args.StandardRestore(template.params),
        "position": ocp.args.JsonRestore(),
    }
    folder = Path(checkpoints.directory) / str(step)
    missing = [name for name in items if not (folder / name).is_dir()]
    if missing:
        raise ValueError(_damaged(folder, f"no folder {' and '.join(missing)}"))
    try:
        kept = checkpoints.restore(step, args=ocp.args.Composite(**items))
        record = kept["position"]
        best = Best(kept["best"], float(record["best"]["error_mm"]), int(record["best"]["step"]))
        return kept["state"], best, record["data"]
    except Exception as error:  # Orbax raises bare ones for damaged data
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(_damaged(folder, reason)) from error


def restore_latest(
    checkpoints: ocp.CheckpointManager, template: Any
) -> tuple[int, Any, Best, dict] | None:
    """Reads the latest checkpoint, or the one before where it is damaged.

    A checkpoint that cannot be read is removed, with a warning in the log, if an earlier one can.

    Args:
        checkpoints: of the level.
        template: a state of the same structure, shapes and types.

    Returns:
        The step, the state, the best so far and the position; None where there is no checkpoint.

    Raises:
        ValueError: none of them can be read; the text is about the latest.
    """
    problems: dict[int, ValueError] = {}
    for step in sorted(checkpoints.all_steps(), reverse=True):
        try:
            found = (step, *restore(checkpoints, step, template))
        except ValueError as error:
            problems[step] = error
            continue
        for damaged, error in problems.items():
            log.warning("%s Training goes on from step %d.", error, step)
            shutil.rmtree(Path(checkpoints.directory) / str(damaged))
        checkpoints.reload()
        return found
    if problems:
        raise next(iter(problems.values()))
    return None


def _damaged(folder: Path, reason: str) -> str:
    return (
        f"{folder}: expected a checkpoint of this network, got damaged or other files "
        f"({' '.join(reason.split())}). Copy it again, or use a new --workdir."
    )


class Plan(NamedTuple):
    """What a level is trained on.

    Attributes:
        steps: number of steps after which it is finished.
        pairs: names of the prepared pairs, in order.
        start: digest of the weights that it began with; "" for those of the coarser level.
    """

    steps: int
    pairs: list[str]
    start: str = ""


def claim(workdir: Path, level: int, config: Config, plan: Plan) -> None:
    """Writes the settings and the plan of a level, or checks that it was begun with the same.

    Args:
        workdir: of the training.
        level: 1 is the finest.
        config: settings.
        plan: steps and pairs.

    Raises:
        ValueError: the level was begun with other settings, named in the text, with other pairs
            or other weights.
    """
    folder = level_folder(workdir, level)
    path = folder / "config.json"
    if path.is_file():
        _require_same(path, config, level)
        begun = _plan(folder)
        if begun.start != plan.start:
            raise ValueError(
                f"{folder}: expected the --start that this level was begun with "
                f"({begun.start or 'none'}), got another ({plan.start or 'none'}). Use the former "
                "one, or a new --workdir."
            )
        if begun.pairs != plan.pairs:
            raise ValueError(
                f"{folder}: expected the pairs that this level was begun with, got others. "
                "Use the former --data, or a new --workdir."
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / "plan.json") as target:
        target.write_text(json.dumps(plan._asdict()), encoding="utf-8")
    with replacing(path) as target:
        target.write_text(to_json(config), encoding="utf-8")


def _plan(folder: Path) -> Plan:
    return Plan(**json.loads((folder / "plan.json").read_text(encoding="utf-8")))


def finished_params(workdir: Path, level: int, config: Config, template: Any) -> Any:
    """The best parameters of a level whose training is finished.

    Args:
        workdir: of the training.
        level: the level wanted.
        config: settings that it must have been trained with.
        template: a state of the same structure.

    Returns:
        The parameters.

    Raises:
        ValueError: not begun, not finished, or trained with other settings.
    """
    folder = level_folder(workdir, level)
    path = folder / "config.json"
    fix = f"Train it first: python train.py --level {level} --workdir {workdir}, same --config."
    if not path.is_file():
        raise ValueError(f"level {level}: expected a trained level in {folder}, got none. {fix}")
    _require_same(path, config, level)
    steps = _plan(folder).steps
    with manager(workdir, level) as checkpoints:
        step = checkpoints.latest_step() or 0
        if step < steps:
            raise ValueError(
                f"level {level}: expected {steps} training steps in {folder}, got {step}. {fix}"
            )
        return restore(checkpoints, step, template)[1].params


def _require_same(path: Path, config: Config, level: int) -> None:
    stored, given = (
        _settings(c, level) for c in (from_json(path.read_text(encoding="utf-8")), config)
    )
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
    settings |= {name: settings[name][level - 1] for name in PER_LEVEL}
    return {name: value for name, value in settings.items() if name not in FREE}

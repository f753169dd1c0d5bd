"""Training of the cascade: one pure step, and the loop of one level.

Levels are trained from the coarsest to the finest. The level in training is the only thing that is
differentiated; coarser levels are plain arguments. A level starts from the parameters of the next
coarser one. Random numbers are derived from (seed, level, step), so a run that was interrupted and
resumed draws the same ones.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxreg.config import Config
from jaxreg.fields.deformation import compose, resize_displacement, warp
from jaxreg.fields.jacobian import fold_count, jacobian_determinant
from jaxreg.fields.pyramid import halve
from jaxreg.learning import checkpoint
from jaxreg.learning.augmentation import Pair, augment
from jaxreg.learning.pairs import batches, read_pair
from jaxreg.losses import Example, keypoint, total
from jaxreg.network.cascade import cascade, init_level, level_displacement

log = logging.getLogger(__name__)

Params = Any


class State(NamedTuple):
    """What changes in training.

    Attributes:
        params: of the level in training.
        optimiser: state of Adam.
        step: number of steps done, ().
    """

    params: Params
    optimiser: optax.OptState
    step: jax.Array


def example_at(pair: Pair, level: int, *, labels: int) -> Example:
    """The pair as the loss sees it at a level: everything on 1/2^(level-1) of the network grid.

    Args:
        pair: on the network grid.
        level: 1 is the network grid itself.
        labels: K; the label maps become shares of K labels.

    Returns:
        Images, shares and keypoints on the grid of the level.
    """
    names = jnp.arange(1, labels + 1)[None, None, None]
    fixed, moving = pair.fixed, pair.moving
    fixed_shares = (pair.fixed_labels[..., None] == names).astype(jnp.float32)
    moving_shares = (pair.moving_labels[..., None] == names).astype(jnp.float32)
    for _ in range(level - 1):
        fixed, moving, fixed_shares, moving_shares = (
            halve(image) for image in (fixed, moving, fixed_shares, moving_shares)
        )
    scale = 2.0 ** (level - 1)
    return Example(
        fixed=fixed,
        moving=moving,
        mask=jnp.sum(fixed_shares, axis=-1),
        fixed_labels=fixed_shares,
        moving_labels=moving_shares,
        # voxel i of the coarse grid is centred at scale * i + (scale - 1) / 2 of the fine one
        fixed_keypoints=(pair.fixed_keypoints - (scale - 1.0) / 2.0) / scale,
        moving_keypoints=(pair.moving_keypoints - (scale - 1.0) / 2.0) / scale,
        keypoint_weights=pair.keypoint_weights,
        spacing_mm=pair.spacing_mm * scale,
    )


def displacement_at(
    params: Params, coarser: Mapping[str, Params], pair: Pair, level: int, *, config: Config
) -> jax.Array:
    """Composed displacement of the levels L..level on the grid of `level`, in its voxels.

    The coarser levels are not differentiated.

    Args:
        params: of `level`.
        coarser: parameters of the levels above it, {"level_3": ...}.
        pair: on the network grid.
        level: the finest level used.
        config: settings.

    Returns:
        Displacement, (x, y, z, 3).
    """
    found = cascade(coarser, pair.fixed, pair.moving, config.network) if coarser else None
    fixed, warped = pair.fixed, pair.moving
    if found is not None:
        found = jax.lax.stop_gradient(found)
        warped = warp(pair.moving, found)
    for _ in range(level - 1):
        fixed, warped = halve(fixed), halve(warped)
    v = level_displacement(params, fixed, warped, config.network)
    return v if found is None else compose(resize_displacement(found, v.shape[:3]), v)


def make_step(
    config: Config, level: int, *, labels: int
) -> Callable[[State, Mapping[str, Params], Pair], tuple[State, dict[str, jax.Array]]]:
    """The training step of a level: a pure jitted function that takes over its state.

    Args:
        config: settings.
        level: in training.
        labels: K.

    Returns:
        step(state, coarser, batch) -> (state, {"loss", each unweighted term, "gradient"}), where
        the batch is a `Pair` with a leading axis.
    """
    optimiser = optax.adam(config.training.learning_rate)

    def loss_of_pair(params, coarser, key, pair):
        if config.training.augment:
            pair = augment(key, pair, labels=labels)
        u = displacement_at(params, coarser, pair, level, config=config)
        example = example_at(pair, level, labels=labels)
        return total(u, example, config=config.loss, level=level)

    def loss_of_batch(params, coarser, keys, batch):
        losses, terms = jax.vmap(loss_of_pair, (None, None, 0, 0))(params, coarser, keys, batch)
        return jnp.mean(losses), {name: jnp.mean(term) for name, term in terms.items()}

    def step(state, coarser, batch):
        key = jax.random.fold_in(jax.random.key(config.training.seed), level)
        keys = jax.random.split(jax.random.fold_in(key, state.step), batch.fixed.shape[0])
        (loss, terms), gradient = jax.value_and_grad(loss_of_batch, has_aux=True)(
            state.params, coarser, keys, batch
        )
        update, moments = optimiser.update(gradient, state.optimiser, state.params)
        params = optax.apply_updates(state.params, update)
        measured = {"loss": loss, **terms, "gradient": optax.tree.norm(gradient)}
        return State(params, moments, state.step + 1), measured

    return jax.jit(step, donate_argnums=0)


def initial_state(config: Config, level: int, *, params: Params | None = None) -> State:
    """State before the first step: from given parameters, or new ones drawn from the seed."""
    if params is None:
        key = jax.random.fold_in(jax.random.key(config.training.seed), 1000 + level)
        params = init_level(key, config.network)
    # a copy: the step takes over its state, the caller's parameters must stay
    params = jax.tree.map(jnp.array, params)
    optimiser = optax.adam(config.training.learning_rate)
    return State(params, optimiser.init(params), jnp.zeros((), jnp.int32))


def make_validation(
    config: Config, level: int
) -> Callable[[Params, Mapping[str, Params], Pair], dict[str, jax.Array]]:
    """Jitted measures of a pair that is not trained on, with the levels L..level.

    Returns:
        measure(params, coarser, pair) -> {"tre_mm": mean keypoint error as root mean square,
        "initial_mm": the same without registration, "folds": share of lung voxels with det <= 0 by
        central differences}.
    """

    def measure(params, coarser, pair):
        u = displacement_at(params, coarser, pair, level, config=config)
        example = example_at(pair, level, labels=1)
        lungs = example_at(
            pair._replace(
                fixed_labels=(pair.fixed_labels > 0).astype(jnp.uint8),
                moving_labels=(pair.moving_labels > 0).astype(jnp.uint8),
            ),
            level,
            labels=1,
        ).mask
        points = (example.fixed_keypoints, example.moving_keypoints, example.keypoint_weights)
        folds = fold_count(jacobian_determinant(u), lungs > 0.5)
        return {
            "tre_mm": jnp.sqrt(keypoint(u, *points, spacing_mm=example.spacing_mm)),
            "initial_mm": jnp.sqrt(keypoint(0.0 * u, *points, spacing_mm=example.spacing_mm)),
            "folds": folds / jnp.maximum(jnp.sum(lungs > 0.5), 1),
        }

    return jax.jit(measure)


def _check_finite(level: int, first_step: int, interval: list[dict[str, np.ndarray]]) -> None:
    for offset, measured in enumerate(interval):
        for name, value in measured.items():
            if not np.isfinite(value):
                raise FloatingPointError(
                    f"level {level}: expected finite terms, got {name} = {value} at step "
                    f"{first_step + offset}. The last checkpoint is from before; lower "
                    "training.learning_rate, or look at the pair of that step."
                )


def _shard(batch: Pair) -> Pair:
    """The batch spread over all local devices, if there is more than one."""
    devices = jax.devices()
    if len(devices) == 1:
        return batch
    mesh = jax.make_mesh((len(devices),), ("batch",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("batch"))
    return jax.device_put(batch, sharding)


class _Log:
    """Appends to log.jsonl; lines after the step that training resumes from are dropped."""

    def __init__(self, path: Path, step: int):
        kept = []
        if path.is_file():
            lines = [line for line in path.read_text().splitlines() if line.endswith("}")]
            kept = [line for line in lines if json.loads(line)["step"] <= step]
        path.write_text("".join(line + "\n" for line in kept))
        self.path = path

    def write(self, **values: float) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(values) + "\n")


def level_steps(config: Config, level: int, pairs: int) -> int:
    """Number of steps of a level: epochs times pairs over the batch, rounded down."""
    return config.training.epochs[level - 1] * pairs // config.training.batch


def train_level(
    config: Config,
    level: int,
    *,
    workdir: Path,
    train: Sequence[Path],
    validation: Sequence[Path],
    labels: int,
) -> Params:
    """Trains a level, or resumes it, and returns its parameters.

    Order of resuming: settings are compared; the latest checkpoint is taken; the data iterator is
    put back to its place; the log is cut there.

    Args:
        config: settings.
        level: 1 (finest) to L.
        workdir: where the coarser levels are and this one goes.
        train: files of prepared pairs.
        validation: files of prepared pairs that are measured, not trained on.
        labels: K, number of labels in the pairs.

    Returns:
        Parameters of the level.

    Raises:
        ValueError: a coarser level is missing or of other settings, or so is a former run.
        FloatingPointError: a term is not finite; the text names the step and the term.
    """
    coarser = coarser_params(config, level, workdir=workdir, pairs=len(train))
    checkpoint.claim(workdir, level, config)
    state = initial_state(config, level, params=coarser.get(f"level_{level + 1}"))
    steps = level_steps(config, level, len(train))
    stream = batches(
        train,
        seed=config.training.seed + level,
        batch=config.training.batch,
        epochs=config.training.epochs[level - 1],
    )
    step_function = make_step(config, level, labels=labels)
    measure = make_validation(config, level)
    held_out = [read_pair(path) for path in validation]

    with checkpoint.manager(workdir, level) as checkpoints:
        done = checkpoints.latest_step() or 0
        if done:
            state, position = checkpoint.restore(checkpoints, done, state)
            stream.set_state(position)
            log.info("level %d: resumed after step %d of %d", level, done, steps)
        records = _Log(checkpoint.level_folder(workdir, level) / "log.jsonl", done)
        interval, first, began = [], done, time.monotonic()
        while done < steps:
            state, measured = step_function(state, coarser, _shard(next(stream)))
            done += 1
            interval.append(measured)
            saving = done % config.training.checkpoint_every == 0 or done == steps
            if saving or done % config.training.log_every == 0:
                interval = jax.device_get(interval)
                _check_finite(level, first + 1, interval)
                mean = {k: float(np.mean([m[k] for m in interval])) for k in interval[0]}
                rate = len(interval) / (time.monotonic() - began)
                records.write(step=done, steps_per_s=rate, **mean)
                _report(level, done, steps, rate, mean)
                interval, first, began = [], done, time.monotonic()
            if saving:
                measures = [measure(state.params, coarser, pair) for pair in held_out]
                mean = {k: float(np.mean([m[k] for m in measures])) for k in measures[0]}
                records.write(step=done, **{f"validation_{k}": v for k, v in mean.items()})
                log.info(
                    "level %d step %d/%d validation: %.2f mm (initial %.2f), folds %.3f %%",
                    *(level, done, steps, mean["tre_mm"], mean["initial_mm"]),
                    100 * mean["folds"],
                )
                checkpoint.save(checkpoints, done, state, stream.get_state())
                began = time.monotonic()
    return state.params


def _report(level: int, done: int, steps: int, rate: float, mean: Mapping[str, float]) -> None:
    left = (steps - done) / rate
    terms = " ".join(f"{name} {value:.4g}" for name, value in mean.items())
    log.info(
        "level %d step %d/%d %s | %.2f steps/s, %d min %02d s left",
        *(level, done, steps, terms, rate, left // 60, left % 60),
    )


def coarser_params(config: Config, level: int, *, workdir: Path, pairs: int) -> dict[str, Params]:
    """Parameters of the finished levels above `level`, {"level_3": ...}.

    Raises:
        ValueError: one of them is missing, unfinished, or was trained with other settings.
    """
    params = {}
    for coarse in range(config.network.levels, level, -1):
        template = initial_state(config, coarse)
        steps = level_steps(config, coarse, pairs)
        state = checkpoint.finished_params(workdir, coarse, config, template, steps)
        params[f"level_{coarse}"] = state.params
    return params

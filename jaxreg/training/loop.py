"""Training of the cascade: one pure step, and the loop of one level.

Levels are trained from the coarsest to the finest. The level in training is the only thing that is
differentiated; coarser levels are plain arguments. A level starts from the parameters of the next
coarser one. Random numbers are derived from (seed, level, step), so a run that was interrupted and
resumed draws the same ones.
"""

import dataclasses
import functools
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxreg.config import Config
from jaxreg.network.cascade import cascade, init_level, unet_level
from jaxreg.network.weights import weights_digest
from jaxreg.ops.deformation import transform_points
from jaxreg.ops.jacobian import fold_count, jacobian_determinant
from jaxreg.ops.types import Displacement
from jaxreg.training import checkpoint
from jaxreg.training.augmentation import augment
from jaxreg.training.blocks import random_block
from jaxreg.training.losses import Example, masked_mean, total
from jaxreg.training.pairs import read_example
from jaxreg.training.records import Records
from jaxreg.training.sources import Source

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


def displacement_at(
    params: Params, coarser: Mapping[str, Params], example: Example, level: int, *, config: Config
) -> Displacement:
    """Composed displacement of the levels L..level on the grid of `level`, in its voxels.

    On that grid the level in training is the finest, so the cascade runs there with its levels
    counted anew: level c becomes c - level + 1. (The paper warps on the network grid and brings the
    result down; the images here were brought down before, which costs 8 times less a level.) The
    coarser levels are not differentiated.

    Args:
        params: of `level`.
        coarser: parameters of the levels above it, {"level_3": ...}.
        example: the pair on the grid of the level.
        level: the finest level used.
        config: settings.

    Returns:
        Displacement, (x, y, z, 3).
    """
    return _of_levels(_levels(coarser, level, config) | {"level_1": params}, example, level, config)


def _levels(coarser, level, config):
    """Parameters of the coarser levels, counted anew from the level in training."""
    levels = {f"level_{c - level + 1}": coarser[f"level_{c}"] for c in _coarser(config, level)}
    return jax.lax.stop_gradient(levels)


def _network(level, config):
    """Settings of the cascade whose finest level is the one in training."""
    levels = config.network.levels - level + 1
    rounds = config.network.rounds[level - 1 :]
    return dataclasses.replace(config.network, levels=levels, rounds=rounds, by_hand=0)


def _of_levels(levels, example, level, config):
    return cascade(
        levels,
        example.fixed,
        example.moving,
        _network(level, config),
        mask=example.mask,
        spacing_mm=example.spacing_mm,
    )


def _block_and_displacement(params, coarser, key, example, level, config):
    """A random block of the pair, and the displacement of the levels L..level on it."""
    u = _of_levels(_levels(coarser, level, config), example, level, config)
    example, u = random_block(key, example, u, config.training.blocks[level - 1])
    network = _network(level, config)
    return example, unet_level(params, u, example.fixed, example.moving, network, 1)


def _coarser(config: Config, level: int) -> range:
    """Levels above `level`, coarsest first."""
    return range(config.network.levels, level, -1)


def make_step(
    config: Config, level: int, *, augmented: bool
) -> Callable[[State, Mapping[str, Params], Example], tuple[State, dict[str, jax.Array]]]:
    """The training step of a level: a pure jitted function that takes over its state.

    Args:
        config: settings.
        level: in training.
        augmented: whether the pairs are changed at random first.

    Returns:
        step(state, coarser, batch) -> (state, {"loss", each unweighted term, "gradient"}), where
        the batch is an `Example` on the grid of the level with a leading axis.
    """
    optimiser = _adam(config, level)

    def loss_of_pair(params, coarser, key, example):
        if augmented:
            example = augment(key, example, config=config.augmentation)
        if config.training.blocks[level - 1] > 1:
            key = jax.random.fold_in(key, 1)
            example, u = _block_and_displacement(params, coarser, key, example, level, config)
        else:
            u = displacement_at(params, coarser, example, level, config=config)
        return total(u, example, config=config.loss, level=level)

    # Each device works on its part of the batch by itself, then all take the mean. Left to XLA's
    # partitioner, the gradient of a convolution's weights came out wrong on the CPU.
    split, everywhere = placements(config.training.batch[level - 1])

    @functools.partial(
        jax.shard_map,
        mesh=split.mesh,
        in_specs=(everywhere.spec, everywhere.spec, split.spec, split.spec),
        out_specs=everywhere.spec,
        check_vma=False,
    )
    def gradient_of_batch(params, coarser, keys, batch):
        gradient = jax.value_and_grad(loss_of_pair, has_aux=True)
        # One pair after the other: in the memory of one, and without the grouped convolutions
        # that a batch makes of the gradient of the weights, which are slow on a GPU. A single pair
        # needs no loop, in which convolutions are slower on a CPU.
        if keys.shape[0] == 1:
            found = gradient(params, coarser, keys[0], jax.tree.map(lambda a: a[0], batch))
            return jax.lax.pmean(found, "batch")
        found = jax.lax.map(lambda pair: gradient(params, coarser, *pair), (keys, batch))
        return jax.lax.pmean(jax.tree.map(lambda a: jnp.mean(a, axis=0), found), "batch")

    def step(state, coarser, batch):
        key = jax.random.fold_in(jax.random.key(config.training.seed), level)
        keys = jax.random.split(jax.random.fold_in(key, state.step), batch.fixed.shape[0])
        (loss, terms), gradient = gradient_of_batch(state.params, coarser, keys, batch)
        update, moments = optimiser.update(gradient, state.optimiser)
        params = optax.apply_updates(state.params, update)
        measured = {"loss": loss, **terms, "gradient": optax.tree.norm(gradient)}
        return State(params, moments, state.step + 1), measured

    return jax.jit(step, donate_argnums=0)


def _adam(config: Config, level: int) -> optax.GradientTransformation:
    settings = config.training
    steps = max(settings.steps[level - 1], 1)
    highest = settings.learning_rate
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.0 if settings.warmup else highest,
        peak_value=highest,
        warmup_steps=min(settings.warmup, steps - 1),
        decay_steps=steps,
        end_value=settings.decay * highest,
    )
    return optax.adam(schedule)


def initial_state(config: Config, level: int, *, params: Params | None = None) -> State:
    """State before the first step.

    Args:
        config: settings.
        level: 1 is the finest.
        params: to begin with; None for new ones drawn from the seed.

    Returns:
        The state, whose arrays are copies.
    """
    if params is None:
        key = jax.random.fold_in(jax.random.key(config.training.seed), 1000 + level)
        params = init_level(key, config.network)
    # a copy: the step takes over its state, the caller's parameters must stay
    own: Params = jax.tree.map(jnp.array, params)
    return State(own, _adam(config, level).init(own), jnp.zeros((), jnp.int32))


def make_validation(
    config: Config, level: int
) -> Callable[[Params, Mapping[str, Params], Example], dict[str, jax.Array]]:
    """Jitted measures of a pair that is not trained on, with the levels L..level.

    Args:
        config: settings.
        level: 1 is the finest.

    Returns:
        measure(params, coarser, example) -> {"tre_mm": mean error of the keypoints, "initial_mm":
        the same without registration, "folds": fraction of lung voxels with det <= 0 by central
        differences}.
    """

    def distance_mm(u, fixed, moving, weights, spacing_mm):
        error_mm = (transform_points(u, fixed) - moving) * spacing_mm[None]
        return masked_mean(jnp.linalg.norm(error_mm, axis=-1), weights)

    def measure(params, coarser, example):
        u = displacement_at(params, coarser, example, level, config=config)
        points = (example.fixed_keypoints, example.moving_keypoints, example.keypoint_weights)
        lungs = example.mask > 0.5
        folds = fold_count(jacobian_determinant(u), lungs)
        return {
            "tre_mm": distance_mm(u, *points, example.spacing_mm),
            "initial_mm": distance_mm(0.0 * u, *points, example.spacing_mm),
            "folds": folds / jnp.maximum(jnp.sum(lungs), 1),
        }

    return jax.jit(measure)


def placements(batch: int) -> tuple[jax.sharding.NamedSharding, jax.sharding.NamedSharding]:
    """Returns where a batch goes, split over as many devices as divide it, and what all hold."""
    count = math.gcd(batch, len(jax.devices()))
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:count]), ("batch",))
    spec = jax.sharding.PartitionSpec
    return (
        jax.sharding.NamedSharding(mesh, spec("batch")),
        jax.sharding.NamedSharding(mesh, spec()),
    )


def train_level(
    config: Config,
    level: int,
    *,
    workdir: Path,
    source: Source,
    validation: Mapping[str, Sequence[Path]],
    labels: int,
    start: Mapping[str, Params] | None = None,
) -> Params:
    """Trains a level, or resumes it, and returns its best parameters.

    Those are the ones of the checkpoint with the least mean error on the pairs held out (of several
    sets the mean of their means), the later of two that are equal, the last one where no pair is
    held out or none has keypoints.

    Order of resuming: settings are compared; the latest checkpoint is taken; the data iterator is
    put back to its position; the log is cut there.

    Args:
        config: settings.
        level: 1 (finest) to L.
        workdir: where the coarser levels are and this one goes.
        source: what to train on.
        validation: files of prepared pairs that are measured, not trained on, by the name of their
            set, beside those that the source holds out.
        labels: K, number of labels in these.
        start: parameters of all levels to begin with; without them a level begins with those of
            the next coarser one, the coarsest with new ones.

    Returns:
        Parameters of the level, the best.

    Raises:
        ValueError: a coarser level is missing or of other settings, or so is a former run, or that
            run began with other parameters.
        FloatingPointError: a term is not finite; the text names the step and the term.
    """
    coarser = coarser_params(config, level, workdir=workdir, start=start)
    settings, steps = config.training, config.training.steps[level - 1]
    begun = weights_digest(start) if start else ""
    checkpoint.claim(workdir, level, config, checkpoint.Plan(steps, source.names, begun))
    first = start[f"level_{level}"] if start else coarser.get(f"level_{level + 1}")
    state = initial_state(config, level, params=first)
    stream = source.batches(level)
    step_function = make_step(config, level, augmented=source.augment)
    error_mm = _validation(config, level, source=source, files=validation, labels=labels)

    with checkpoint.manager(workdir, level) as checkpoints:
        done, best = 0, checkpoint.Best(state.params, math.inf, 0)
        kept = checkpoint.restore_latest(checkpoints, state)
        if kept is not None:
            done, state, best, position = kept
            stream.set_state(position)
            log.info("level %d: resumed after step %d of %d", level, done, steps)
        split, everywhere = placements(settings.batch[level - 1])
        state, coarser = jax.device_put((state, coarser), everywhere)
        path = checkpoint.level_folder(workdir, level) / "log.jsonl"
        records = Records(path, level, done=done, steps=steps)
        if kept is None and start:  # training may end with nothing better than it began with
            params = jax.tree.map(jnp.copy, state.params)
            best = checkpoint.Best(params, error_mm(params, coarser, records), 0)
        while done < steps:
            batch = jax.device_put(next(stream), split)
            state, measured = step_function(state, coarser, batch)
            records.add(measured)
            done += 1
            saving = done % settings.checkpoint_every == 0 or done == steps
            if saving or done % settings.log_every == 0:
                records.end_interval()
            if saving:
                found = error_mm(state.params, coarser, records)
                if not found > best.error_mm:  # the later one of equals
                    params = jax.tree.map(jnp.copy, state.params)  # the step takes over its state
                    best = checkpoint.Best(params, found, done)
                checkpoint.save(checkpoints, done, state, best, stream.get_state())
                records.begin()
    log.info("level %d: parameters of step %d of %d are kept", level, best.step, steps)
    return best.params


def _validation(config, level, *, source, files, labels):
    """A function of (params, coarser, records): the mean error on the pairs held out, mm.

    Of several sets it is the mean of their means. What was found goes into the records.
    """
    measure = make_validation(config, level)
    sets = {
        name: [read_example(path, level, labels=labels) for path in paths]
        for name, paths in files.items()
    }
    if source.held_out is not None:
        sets["synthetic"] = source.held_out(level)

    def error_mm(params, coarser, records):
        errors = [
            records.validated(name, [measure(params, coarser, e) for e in examples])
            for name, examples in sets.items()
        ]
        return sum(errors) / max(len(errors), 1)

    return error_mm


def coarser_params(
    config: Config, level: int, *, workdir: Path, start: Mapping[str, Params] | None = None
) -> dict[str, Params]:
    """Parameters of the finished levels that are coarser than one.

    Args:
        config: settings.
        level: 1 is the finest.
        workdir: of the training.
        start: parameters of the levels that were not begun in `workdir`.

    Returns:
        {"level_3": parameters, ...}.

    Raises:
        ValueError: one of them is missing, unfinished, or was trained with other settings.
    """
    params = {}
    for coarse in _coarser(config, level):
        name = f"level_{coarse}"
        if start and not checkpoint.level_folder(workdir, coarse).is_dir():
            params[name] = start[name]
            continue
        template = initial_state(config, coarse)
        params[name] = checkpoint.finished_params(workdir, coarse, config, template)
    return params

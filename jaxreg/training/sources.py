"""Where the batches of a training come from: prepared pairs, or synthetic ones.

Both give the same batches again from (seed, level, step), so a training can be resumed.
"""

import concurrent.futures
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from jaxreg.config import Config
from jaxreg.ops.types import Shape
from jaxreg.training.anatomies import Anatomy, load_anatomies
from jaxreg.training.losses import Example
from jaxreg.training.pairs import batches
from jaxreg.training.synthetic import draw, level_shape

HELD_OUT_SEED = 7  # of the motion of synthetic pairs held out; the same for every training


class Batches(Protocol):
    """Batches of a level in their order, and the position in it."""

    def __next__(self) -> Example:
        """The next batch, with a leading axis."""
        ...

    def get_state(self) -> dict[str, Any]:
        """The position, for JSON."""
        ...

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes to a position that `get_state` returned."""
        ...


class Source(NamedTuple):
    """What to train on.

    Attributes:
        names: of the files behind it, in order.
        batches: from a level to its batches.
        augment: whether the step is to change the pairs at random.
        held_out: from a level to pairs of the same kind that no step trains on; None where there
            are none.
    """

    names: list[str]
    batches: Callable[[int], Batches]
    augment: bool
    held_out: Callable[[int], list[Example]] | None = None


def pairs_source(config: Config, paths: Sequence[Path], *, labels: int) -> Source:
    """Prepared pairs, shuffled anew each epoch.

    Args:
        config: settings.
        paths: of the prepared pairs.
        labels: largest label.

    Returns:
        The source of batches.
    """

    def of_level(level):
        return batches(
            paths,
            level,
            labels=labels,
            seed=config.training.seed + level,
            batch=config.training.batch[level - 1],
        )

    return Source([path.name for path in paths], of_level, config.training.augment)


def stream_source(
    config: Config, paths: Sequence[Path], *, held_out: Sequence[Path] = ()
) -> Source:
    """New pairs at every step, made from anatomies.

    Args:
        config: settings.
        paths: of the prepared anatomies.
        held_out: of anatomies that are not trained on: each is drawn once, and always the same.

    Returns:
        The source of batches.
    """
    by_hand = config.network.by_hand  # levels that need no pairs: no anatomy is as fine

    def draw_at(level):
        return functools.partial(
            draw, grid=stream_grid(config), level=level - by_hand, config=config.synthetic
        )

    def of_level(level):
        return Stream(
            load_anatomies(paths, level=level - by_hand),
            jax.random.fold_in(jax.random.key(config.training.seed), level),
            draw_at(level),
            batch=config.training.batch[level - 1],
        )

    def pairs_held_out(level):
        keys = jax.random.split(jax.random.key(HELD_OUT_SEED), len(held_out))
        anatomies = [load_anatomies([path], level=level - by_hand) for path in held_out]
        drawn = [draw_at(level)(*one) for one in zip(keys, anatomies, strict=True)]
        return jax.device_get(drawn)

    names = [path.name for path in paths]
    return Source(names, of_level, augment=False, held_out=pairs_held_out if held_out else None)


def stream_grid(config: Config) -> Shape:
    """Grid of the finest level that learns."""
    return level_shape(config.network.grid, config.network.by_hand + 1)


class Stream:
    """Batches drawn while the step before is computed; batch n depends on the key and n alone."""

    def __init__(
        self, anatomies: Anatomy, key: jax.Array, draw: Callable[..., Example], *, batch: int
    ):
        """`draw` makes one pair from a key and the anatomies."""
        self._anatomies, self._key, self._draw, self._batch = anatomies, key, draw, batch
        self._drawer = concurrent.futures.ThreadPoolExecutor(max_workers=1)
        self.set_state({"next": 0})

    def _make(self, number):
        keys = jax.random.split(jax.random.fold_in(self._key, number), self._batch)
        examples = [self._draw(key, self._anatomies) for key in keys]
        batch = jax.tree.map(lambda *arrays: jnp.stack(arrays), *examples)
        return jax.block_until_ready(batch)

    def __next__(self) -> Example:
        """The next batch."""
        batch = self._ahead.result()
        self.set_state({"next": self._next + 1})
        return batch

    def get_state(self) -> dict[str, Any]:
        """Number of the next batch."""
        return {"next": self._next}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes to a batch, and begins to draw it."""
        self._next = state["next"]
        self._ahead = self._drawer.submit(self._make, self._next)

"""Training metrics of a level, appended as lines of JSON and logged."""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from jaxreg.io.atomic import replacing
from jaxreg.ops.types import Scalar

log = logging.getLogger(__name__)


class Records:
    """The record of a level in training: the means of each interval of steps and of validation."""

    def __init__(self, path: Path, level: int, *, done: int, steps: int):
        """Goes on with a file, or begins one; lines after the step `done` are dropped.

        Args:
            path: of the file, a JSON object a line.
            level: in training.
            done: steps done before.
            steps: to do in all.
        """
        kept = []
        if path.is_file():
            lines = [
                line for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")
            ]
            kept = [line for line in lines if json.loads(line)["step"] <= done]
        with replacing(path) as target:
            target.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        self._path, self._level, self._steps = path, level, steps
        self._done = done  # up to the last interval
        self._interval: list[Mapping[str, jax.Array]] = []
        self._began = time.monotonic()

    def add(self, measured: Mapping[str, jax.Array]) -> None:
        """Takes the terms, (), of one more step; they may still be in computation."""
        self._interval.append(measured)

    def end_interval(self) -> None:
        """Writes and logs the means of the steps since the last interval, and begins a new one.

        Raises:
            FloatingPointError: a term is not finite; the text names the step and the term.
        """
        interval = jax.device_get(self._interval)
        _check_finite(self._level, self._done + 1, interval)
        mean = _means(interval)
        rate = len(interval) / (time.monotonic() - self._began)
        self._done += len(interval)
        self._write({"steps_per_s": rate, **mean})
        left = (self._steps - self._done) / rate
        terms = " ".join(f"{name} {value:.4g}" for name, value in mean.items())
        log.info(
            "level %d step %d/%d %s | %.2f steps/s, %d min %02d s left",
            *(self._level, self._done, self._steps, terms, rate, left // 60, left % 60),
        )
        self._interval = []
        self.begin()

    def validated(self, name: str, measures: Sequence[Mapping[str, Scalar]]) -> float:
        """Writes and logs the means over a set of validation pairs after the last interval.

        Args:
            name: of the set.
            measures: of each pair, as `jaxreg.training.loop.make_validation` returns them.

        Returns:
            The mean error, "tre_mm".
        """
        mean = _means(measures)
        self._write({f"{name}_{key}": value for key, value in mean.items()})
        log.info(
            "level %d step %d/%d %s: %.2f mm (initial %.2f), folds %.3f %%",
            *(self._level, self._done, self._steps, name, mean["tre_mm"], mean["initial_mm"]),
            100 * mean["folds"],
        )
        return mean["tre_mm"]

    def begin(self) -> None:
        """Lets the time of the next interval begin now."""
        self._began = time.monotonic()

    def _write(self, values: Mapping[str, float]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": self._done, **values}) + "\n")


def _means(measures: Sequence[Mapping[str, Scalar]]) -> dict[str, float]:
    return {key: float(np.mean([m[key] for m in measures])) for key in measures[0]}


def _check_finite(level: int, first_step: int, interval: Sequence[Mapping[str, Scalar]]) -> None:
    for offset, measured in enumerate(interval):
        for name, value in measured.items():
            if not np.isfinite(value):
                raise FloatingPointError(
                    f"level {level}: expected finite terms, got {name} = {value} at step "
                    f"{first_step + offset}. The last checkpoint is from before; lower "
                    "training.learning_rate, or look at the pair of that step."
                )

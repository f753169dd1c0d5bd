"""Checks of settings, and the one form of their messages."""

from collections.abc import Sequence
from typing import Any


def check(holds: bool, name: str, rule: str, value: Any, fix: str) -> None:
    """Raises ValueError "name: expected rule, got value. fix" unless `holds`."""
    if not holds:
        raise ValueError(f"{name}: expected {rule}, got {value}. {fix}")


def positive(settings: Any, *names: str) -> None:
    """Raises ValueError unless the named settings are numbers above 0."""
    for name in names:
        value = getattr(settings, name)
        check(value > 0, name, "a number above 0", value, "Leave it away for the default.")


def ordered(name: str, values: Sequence[float]) -> None:
    """Raises ValueError unless the values rise."""
    rising = all(a < b for a, b in zip(values, values[1:], strict=False))
    check(rising, name, "numbers in rising order", tuple(values), "Put the lowest first.")


def below_one_voxel(settings: Any, name: str) -> None:
    """Raises ValueError unless the named setting, a step, is above 0 and below 1 voxel."""
    value = getattr(settings, name)
    rule = "a number of voxels between 0 and 1"
    check(0 < value < 1, name, rule, value, "Longer steps could fold. Use 0.8.")


def tuples(settings: Any, *names: str) -> None:
    """Turns lists, as JSON has them, into tuples, which are hashable."""
    for name in names:
        object.__setattr__(settings, name, tuple(getattr(settings, name)))

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


def tuples(settings: Any, *names: str) -> None:
    """Turns lists, as JSON has them, into tuples, which are hashable."""
    for name in names:
        object.__setattr__(settings, name, tuple(getattr(settings, name)))

"""Checks of settings, and the one form of their messages."""

from collections.abc import Sequence
from typing import Any


def check(holds: bool, name: str, rule: str, value: Any, fix: str) -> None:
    """Raises "name: expected rule, got value. fix" unless a condition holds.

    Args:
        holds: the condition.
        name: of the setting or argument.
        rule: what is expected.
        value: what was given.
        fix: a sentence on how to mend it.

    Raises:
        ValueError: the condition does not hold.
    """
    if not holds:
        raise ValueError(f"{name}: expected {rule}, got {value}. {fix}")


def positive(settings: Any, *names: str) -> None:
    """Checks that settings are numbers above 0.

    Args:
        settings: object with the settings as attributes.
        *names: of the attributes.

    Raises:
        ValueError: one of them is 0 or below.
    """
    for name in names:
        value = getattr(settings, name)
        check(value > 0, name, "a number above 0", value, "Leave it away for the default.")


def ordered(name: str, values: Sequence[float]) -> None:
    """Checks that numbers rise.

    Args:
        name: of the setting.
        values: its numbers.

    Raises:
        ValueError: they do not rise.
    """
    rising = all(a < b for a, b in zip(values, values[1:], strict=False))
    check(rising, name, "numbers in rising order", tuple(values), "Put the lowest first.")


def below_one_voxel(settings: Any, name: str) -> None:
    """Checks that a step is above 0 and below 1 voxel.

    Args:
        settings: object with the setting as attribute.
        name: of the attribute, a number of voxels.

    Raises:
        ValueError: it is not.
    """
    value = getattr(settings, name)
    rule = "a number of voxels between 0 and 1"
    check(0 < value < 1, name, rule, value, "Longer steps could fold. Use 0.8.")


def grid_shape(name: str, shape: Sequence[int]) -> None:
    """Checks the shape of a grid around lungs.

    Args:
        name: of the setting.
        shape: voxels (X, Y, Z).

    Raises:
        ValueError: it is not three whole numbers, or too small for one level.
    """
    check(
        len(shape) == 3 and all(isinstance(n, int) and n >= 16 for n in shape),
        name,
        "three whole numbers of at least 16 voxels",
        shape,
        "Use (192, 160, 192).",
    )


def tuples(settings: Any, *names: str) -> None:
    """Turns lists, as JSON has them, into tuples, which are hashable.

    Args:
        settings: object whose attributes are replaced.
        *names: of the attributes.
    """
    for name in names:
        object.__setattr__(settings, name, tuple(getattr(settings, name)))

"""The one form of a message about a setting that is not allowed."""

from typing import Any


def check(holds: bool, name: str, rule: str, value: Any, fix: str) -> None:
    """Raises ValueError "name: expected rule, got value. fix" unless `holds`."""
    if not holds:
        raise ValueError(f"{name}: expected {rule}, got {value}. {fix}")

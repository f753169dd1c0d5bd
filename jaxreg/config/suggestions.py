"""What a person may have meant by a name that does not exist."""

import difflib
from collections.abc import Iterable


def close_names(name: str, names: Iterable[str]) -> str:
    """A question for the names that are like a wrong one.

    Args:
        name: the wrong one.
        names: that exist.

    Returns:
        Such as "Did you mean a or b?"; empty where none is like it.
    """
    found = sorted(difflib.get_close_matches(name, names))
    return f"Did you mean {' or '.join(found)}?" if found else ""

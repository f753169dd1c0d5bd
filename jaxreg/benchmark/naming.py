"""Names of cases as parts of file names."""

import hashlib
import re
from urllib.parse import quote

_LONGEST = 100  # characters; file systems take 255 bytes, and endings follow


def file_name(case: str) -> str:
    """Returns the name of a case as a part of file names, one of each, plain ASCII.

    What is neither letter, digit nor one of "_.-~" is escaped as in addresses. A long name ends in
    digits that distinguish it from others with the same beginning.
    """
    name = quote(case, safe="")
    if not name.strip("."):  # "." and ".." are folders
        name = name.replace(".", "%2E")
    if len(name) > _LONGEST:
        digest = hashlib.sha256(case.encode("utf-8", "surrogatepass")).hexdigest()[:12]
        name = f"{re.sub('%[0-9A-F]?$', '', name[: _LONGEST - 13])}-{digest}"
    return name

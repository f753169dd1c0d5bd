"""Warnings about files that were read or written but may be wrong.

Readers and writers warn with `FileWarning`; the command line shows its text, and the pipeline puts
{"code": ..., "text": ...} into the summary.
"""

import os
import warnings


class FileWarning(UserWarning):
    """What a person should know about a file that could be used all the same.

    Attributes:
        code: the kind of warning, lower case with hyphens, such as "other-grid".
        text: one line that begins with the path.
    """

    def __init__(self, code: str, text: str):
        """Keeps both, in `args` too, so that the warning can be pickled."""
        super().__init__(code, text)
        self.code = code
        self.text = text

    def __str__(self) -> str:
        """The text alone."""
        return self.text


def note(path: str | os.PathLike, code: str, text: str) -> None:
    """Issues a FileWarning about a file.

    Args:
        path: of the file.
        code: of the warning, in `summary.json`.
        text: what is said after the path and a colon.
    """
    warnings.warn(FileWarning(code, f"{path}: {text}"), stacklevel=3)

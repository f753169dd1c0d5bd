"""HTML pages that open from a disk, without a network: their common layout, and images within them.

A template extends `page.html`, which stands beside this module, and escapes all that it is given.
"""

import base64
from pathlib import Path

import jinja2


def template(path: Path) -> jinja2.Template:
    """Returns the template in a file; what it is not given is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([path.parent, Path(__file__).parent]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return environment.get_template(path.name)


def data_uri(content: bytes, kind: str) -> str:
    """An image file as a data URI.

    Args:
        content: bytes of the file.
        kind: "png" or "jpeg".

    Returns:
        The URI.
    """
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"

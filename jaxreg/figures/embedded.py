"""Images within an HTML page."""

import base64


def data_uri(content: bytes, kind: str) -> str:
    """Bytes of an image file as a data URI; `kind` is "png" or "jpeg"."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"

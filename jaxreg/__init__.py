"""Deformable registration of lung CT in JAX.

`register` (networks) and `refine` (optimisation) work on arrays inside jitted code,
`register_volumes` on images of any grid. They are loaded when first used, so that `import jaxreg`
costs little.
"""

import importlib

_HOME = {
    "register": "registration",
    "refine": "classical.refine",
    "register_volumes": "registration",
    "Registration": "result",
    "METHODS": "registration",
    "Volume": "data.volume",
    "DisplacementField": "data.volume",
    "read_image": "data.reading",
    "Config": "config",
    "NetworkConfig": "config",
    "load_weights": "network.weights",
}
__all__ = [*_HOME]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str):
    """The public name, imported from its module at first use (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'jaxreg' has no attribute {name!r}")
    return getattr(importlib.import_module(f"jaxreg.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    """Public names."""
    return sorted(_HOME)

"""Deformable registration of lung CT in JAX.

`register` (networks) and `refine` (optimisation) work on arrays inside jitted code,
`register_volumes` on images of any grid. Names are imported at first use, so that `import jaxreg`
costs little; `__init__.pyi` lists where each of them is.
"""

from importlib import metadata

import lazy_loader

__version__ = metadata.version(__name__)  # that of pyproject.toml
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

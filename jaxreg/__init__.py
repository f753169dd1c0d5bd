"""Deformable registration of lung CT in JAX.

`register` (networks) and `refine` (optimisation) work on arrays inside jitted code,
`register_volumes` on images of any grid. Names are imported at first use, so that `import jaxreg`
costs little; `__init__.pyi` lists where each of them is.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

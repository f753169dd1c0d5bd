"""The device that JAX runs on, and compiled programs, which stay on disk for the next run."""

import os


def keep_compiled_programs() -> None:
    """Sets JAX's compilation cache to the user's cache folder, unless one is set already.

    `JAX_COMPILATION_CACHE_DIR` names another folder; on Linux `XDG_CACHE_HOME` moves all caches.

    Raises:
        OSError: JAX_PLATFORMS names a device that JAX cannot use.
    """
    import jax
    import platformdirs

    if jax.config.values["jax_compilation_cache_dir"] is None:
        folder = platformdirs.user_cache_dir("jaxreg", appauthor=False)
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    _check_platform()


def _check_platform() -> None:
    """Raises OSError where JAX_PLATFORMS names a device that JAX cannot use."""
    wanted = os.environ.get("JAX_PLATFORMS")
    if not wanted:
        return
    import jax

    try:
        jax.devices()
    except (AssertionError, RuntimeError) as error:
        raise OSError(
            f"JAX_PLATFORMS: expected a platform that JAX can use here, got '{wanted}'. Install it "
            "(for cuda: pip install 'jaxreg[cuda]'), or unset the variable."
        ) from error

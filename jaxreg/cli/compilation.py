"""Compiled programs stay on disk, so that a second run starts at once."""


def keep_compiled_programs() -> None:
    """Sets JAX's compilation cache to the user's cache folder, unless one is set already.

    `JAX_COMPILATION_CACHE_DIR` names another folder; on Linux `XDG_CACHE_HOME` moves all caches.
    """
    import jax
    import platformdirs

    if jax.config.values["jax_compilation_cache_dir"] is None:
        folder = platformdirs.user_cache_dir("jaxreg", appauthor=False)
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)

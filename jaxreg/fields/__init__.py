"""Images and displacement fields on grids: pure functions of arrays, unbatched (use `jax.vmap`)."""

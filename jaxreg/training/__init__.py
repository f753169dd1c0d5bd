"""Training of the networks: losses, synthetic and real pairs, loop, checkpoints."""

"""From two images to a registration."""

"""Training of the cascade."""

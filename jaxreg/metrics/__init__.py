"""Measures of a registration: landmarks, surfaces, folding, statistics."""

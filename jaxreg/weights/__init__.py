"""Trained parameters that ship with the package."""

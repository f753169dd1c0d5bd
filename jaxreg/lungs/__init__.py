"""Lung segmentation, and the lungs of a pair."""

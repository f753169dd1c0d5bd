"""Figures of registrations: orthogonal views of a pair, comparisons, thumbnails."""

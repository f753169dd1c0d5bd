"""Scores, statistics, published figures, tables and pictures of registrations."""

"""Scoring of methods on data sets: cases, tables, published figures, HTML."""

"""Readers of public data sets and of manifests."""

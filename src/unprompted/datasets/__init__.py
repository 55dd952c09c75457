"""Labelled image collections: one file each."""

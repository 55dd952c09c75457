"""Adaptation of a backbone to the support: an extension, for every method."""

"""Promptable segmentation backbones behind five verbs."""

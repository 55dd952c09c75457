"""How good a segmentation is, measured against reference labels."""

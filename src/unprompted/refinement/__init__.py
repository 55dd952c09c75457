"""A small network, trained on the support, that redraws the masks of any method."""

"""The frame loop: from a volume to labels, once for every method."""

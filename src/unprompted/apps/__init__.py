"""Programs: the command line."""

"""A folder in, a folder out: what the command line and the web server both do."""

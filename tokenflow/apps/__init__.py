"""Programs around the core: the command line."""

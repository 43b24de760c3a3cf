"""The changes of the tables, each on top of the one that it names."""

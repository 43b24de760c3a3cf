"""One node per file, each thin over a function of the library."""

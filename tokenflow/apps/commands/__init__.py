"""The commands of the command line. They read arguments, call the package, and print where results are."""

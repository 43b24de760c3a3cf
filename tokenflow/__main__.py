"""`python -m tokenflow`: the same as the command `tokenflow`."""

from tokenflow.cli import main

main()

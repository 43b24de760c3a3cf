"""`python -m tokenflow`: the same as the command `tokenflow`."""

from tokenflow.start import main

main()

"""Where every command begins: the command line is imported from here, which takes a moment. Knows nothing of it."""

import sys


def main(arguments: list[str] | None = None) -> None:
    """Run the command line (see cli.py). Ctrl-C that comes while it is still imported is status 130 as later on."""
    try:
        from tokenflow import cli

        cli.main(arguments)
    except KeyboardInterrupt:
        sys.exit(130)

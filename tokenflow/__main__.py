"""Entry point of `python -m tokenflow` and of the `tokenflow` command."""

import sys


def main(arguments: list[str] | None = None) -> None:
    """Run the command line (see apps/cli.py). Ctrl-C while it is still being imported exits with status 130, too."""
    try:
        from tokenflow.apps import cli

        cli.main(arguments)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()

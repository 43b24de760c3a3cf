"""Examples under `--help`."""


def examples(*commands: str, after: str = "") -> str:
    """An epilog for typer, which joins lines and keeps paragraphs.

    Args:
        commands: each on a line of its own.
        after: a sentence below them.
    """
    return "\n\n".join(filter(None, ["Examples:", *commands, after]))

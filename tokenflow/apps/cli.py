"""The command line: all commands in one application, its help, and how it starts and ends."""

import sys
from typing import Annotated, Any

import typer

from tokenflow.apps.commands import (
    batch,
    edit,
    generate,
    information,
    inversions,
    keyframes,
    serve,
    train_lora,
    ui,
)
from tokenflow.apps.examples import examples
from tokenflow.apps.exit_status import exit_status
from tokenflow.apps.stdio import standard_streams
from tokenflow.apps.terminal import one_line_warnings, print_lines

app = typer.Typer(
    help="Edit videos with a text prompt, consistently over time.",
    epilog=examples(
        'tokenflow edit clip.mp4 --from "a dog on grass" --to "a tiger on grass"',
        "tokenflow init clip.mp4",
        "tokenflow settings seed",
        after="With --traceback, any command shows where an error came from.",
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

# The commands import the package themselves: torch and diffusers take seconds, and `--help` should not.
for commands in (edit, batch, generate, keyframes, train_lora, ui, serve, information):
    app.add_typer(commands.app)
app.add_typer(inversions.app, name="inversions")

TAKE_SETTINGS = ("preprocess", "edit", "batch", "config", "train-lora")
"""Commands with settings among their arguments."""


def _print_version(wanted: bool) -> None:
    if wanted:
        import tokenflow

        print_lines(f"tokenflow {tokenflow.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Options that come before a command."""


@standard_streams()
def main(arguments: list[str] | None = None) -> None:
    """Run a command line, by default the arguments of the process, and exit with its status (see exit_status.py)."""
    words = sys.argv[1:] if arguments is None else arguments
    with exit_status(with_traceback="--traceback" in words), one_line_warnings():
        try:
            app(args=[word for word in words if word != "--traceback"], prog_name="tokenflow")
        except SystemExit as end:
            if settings := _similar_settings(end.__context__):
                print(f"settings are given without dashes: {settings}", file=sys.stderr)
            raise


def _similar_settings(error: Any) -> str:
    """The settings that were probably meant, if a command that takes settings was given an option it does not have."""
    if type(error).__name__ != "NoSuchOption" or error.ctx.command.name not in TAKE_SETTINGS:
        return ""
    from tokenflow.config import Config
    from tokenflow.config.suggestions import annotation, is_section, suggest_keys

    keys = suggest_keys(Config, error.option_name.lstrip("-"))
    return " or ".join(f"{key}=…" for key in keys if not is_section(annotation(Config, key)))

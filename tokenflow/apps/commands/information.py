"""Commands that only print: settings, models, and what this machine can do."""

from typing import Annotated

import typer

from tokenflow.apps.commands.arguments import ConfigPath, Overrides
from tokenflow.apps.examples import examples
from tokenflow.apps.exit_status import UNSOUND
from tokenflow.apps.terminal import print_lines
from tokenflow.apps.words import refuse_stray_words

app = typer.Typer()


@app.command(
    "config",
    epilog=examples(
        "tokenflow config configs/dog_to_tiger.yaml", "tokenflow config configs/dog_to_tiger.yaml preset=fast"
    ),
)
def show_config(config: ConfigPath, overrides: Overrides = None) -> None:
    """Print the whole resolved configuration."""
    from tokenflow.config import load_config

    refuse_stray_words(overrides or [])
    print_lines(load_config(config, overrides or ()).to_yaml().rstrip("\n"))


@app.command(epilog=examples("tokenflow settings", "tokenflow settings mask", "tokenflow settings edit.pnp"))
def settings(
    word: Annotated[
        str | None, typer.Argument(help="Only settings with this in their name or description.", metavar="WORD")
    ] = None,
) -> None:
    """List all settings: values, default and description of each."""
    from tokenflow.apps.settings_list import settings_lines

    print_lines(*settings_lines(word))


@app.command(epilog=examples("tokenflow models"))
def models() -> None:
    """List published models by short name: steps, guidance, licence, memory, and which fit on this machine."""
    from tokenflow.apps.models_list import device_memory, models_lines

    print_lines(*models_lines(device_memory()))


@app.command(epilog=examples("tokenflow doctor"))
def doctor() -> None:
    """Say what this machine has, which models fit, where files go, and what is missing.

    The exit status is 1 if no edit can be made.
    """
    from tokenflow.apps.doctor import doctor_lines, examine, is_sound

    findings = examine()
    print_lines(*doctor_lines(findings))
    if not is_sound(findings):
        raise typer.Exit(UNSOUND)


@app.command(epilog=examples("tokenflow schema > tokenflow.schema.json"))
def schema() -> None:
    """Print the JSON Schema of configuration files, for completion in editors."""
    import json

    from tokenflow.config.schema import file_schema

    print_lines(json.dumps(file_schema(), indent=2))

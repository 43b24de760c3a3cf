"""`tokenflow train-lora`: a LoRA of one's own."""

from pathlib import Path
from typing import Annotated, Any

import typer

from tokenflow.apps.commands.arguments import Overrides, Quiet
from tokenflow.apps.examples import examples
from tokenflow.apps.terminal import print_lines, terminal_listener

app = typer.Typer()


@app.command(
    "train-lora",
    epilog=examples(
        'tokenflow train-lora photos/ --caption "a <toy> on a table" --model data/models/mini-sd',
        "tokenflow train-lora training.yaml steps=1000 --push someone/toy-lora",
        after="docs/adapters.md describes the settings. The same command continues a training that was interrupted.",
    ),
)
def train_lora(
    source: Annotated[
        Path, typer.Argument(help="A folder of images, or a YAML file of settings.", metavar="IMAGES|CONFIG")
    ],
    overrides: Overrides = None,
    caption: Annotated[
        str | None, typer.Option(help="What the images show, with a word for what is new.", metavar="SENTENCE")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="A folder in diffusers' layout, a .safetensors file, or a Hub id.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder for the LoRA; by default the folder of images with -lora added.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps; 500 if not given.", min=1)] = None,
    push: Annotated[
        str | None,
        typer.Option(help="Upload it to this repository on the Hub; a new one is private.", metavar="OWNER/NAME"),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Train a LoRA on a few images of a subject or style, for model.loras."""
    from tokenflow.config import load_training, read_settings
    from tokenflow.pipeline.lora.training import train_lora as train

    is_config = source.suffix.lower() in (".yaml", ".yml")
    settings: Any = read_settings(source) if is_config else {"images": str(source), "output": f"{source}-lora"}
    path = None if model is None else {"path": model}
    given = {"caption": caption, "output": output, "steps": steps, "model": path, "push": push}
    chosen = {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}
    settings = {**settings, **{name: value for name, value in chosen.items() if value is not None}}
    with terminal_listener(quiet) as on_event:
        trained = train(load_training(settings, overrides or [], name=str(source)), on_event=on_event)
    pushed = [] if trained.address is None else [trained.address]
    print_lines(str(trained.file), *pushed, f"Use it with: model.loras=[{{path: {trained.file.parent}}}]")

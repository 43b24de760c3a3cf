"""`tokenflow generate`: images from a prompt."""

import re
from pathlib import Path
from typing import Annotated

import typer

from tokenflow.apps.commands.arguments import Quiet
from tokenflow.apps.examples import examples
from tokenflow.apps.image_files import image_files, write_images
from tokenflow.apps.terminal import print_lines, terminal_listener
from tokenflow.config import Edit, Model

app = typer.Typer()

EDIT_DEFAULTS = Edit(prompt="")
MODEL_DEFAULTS = Model(path="unset")
SIZE = re.compile(r"([1-9]\d{0,4})[x×]([1-9]\d{0,4})")


@app.command(
    epilog=examples(
        'tokenflow generate data/models/mini-sd "a tiger on grass, 3d style"',
        'tokenflow generate data/models/mini-sd "a bus on a road" --count 4 --seed 7 --output buses.png',
    )
)
def generate(
    model: Annotated[
        str,
        typer.Argument(
            help="A folder in diffusers' layout, a .safetensors file, a Hub id, or a short name (see `models`).",
            metavar="MODEL",
        ),
    ],
    prompt: Annotated[str, typer.Argument(help="What the image shows.", metavar="PROMPT")],
    output: Annotated[
        Path,
        typer.Option(help="The PNG to write, over an earlier one; several are numbered. Its folder is created."),
    ] = Path("image.png"),
    size: Annotated[
        str | None,
        typer.Option(
            help="In pixels, rounded to what the model accepts; by default the size it was trained at.",
            metavar="WIDTHxHEIGHT",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(help="Sampling steps; 25 if not given, or as few as the model was made for.", min=1),
    ] = None,
    guidance_scale: Annotated[
        float, typer.Option(help="How strongly to follow the prompt; 1 turns guidance off.", min=1)
    ] = EDIT_DEFAULTS.guidance_scale,
    negative_prompt: Annotated[str, typer.Option(help="What to steer away from.", show_default=False)] = "",
    seed: Annotated[
        int, typer.Option(help="Of the initial noise: same seed, same images.", min=0)
    ] = EDIT_DEFAULTS.seed,
    count: Annotated[int, typer.Option(help="Number of images.", min=1)] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N or mps; auto takes CUDA, then MPS, then the CPU.")] = (
        MODEL_DEFAULTS.device
    ),
    dtype: Annotated[
        str,
        typer.Option(help="float32, float16 or bfloat16; auto takes float16 on CUDA, on a CPU whichever is fast."),
    ] = MODEL_DEFAULTS.dtype,
    quiet: Quiet = False,
) -> None:
    """Make images from a prompt, with the sampler that edits use."""
    import tokenflow

    width_and_height = None if size is None else _read_size(size)
    files = image_files(output, count)
    with terminal_listener(quiet) as on_event:
        loaded = tokenflow.load_model(model, device=device, dtype=dtype, on_event=on_event)
        images = tokenflow.generate(
            loaded,
            prompt,
            negative_prompt=negative_prompt,
            size=width_and_height,
            steps=steps,
            guidance_scale=guidance_scale,
            seed=seed,
            count=count,
            on_event=on_event,
        )
    write_images(files, images)
    print_lines(*map(str, files))


def _read_size(text: str) -> tuple[int, int]:
    match = SIZE.fullmatch(text)
    if match is None:
        raise typer.BadParameter(f"expected WIDTHxHEIGHT, such as 512x768, got {text!r}", param_hint="--size")
    return int(match[1]), int(match[2])

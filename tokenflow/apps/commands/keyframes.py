"""`tokenflow keyframes`: frames to edit elsewhere."""

from pathlib import Path
from typing import Annotated

import typer

from tokenflow.apps.examples import examples
from tokenflow.apps.frame_numbers import frame_numbers
from tokenflow.apps.terminal import print_lines

app = typer.Typer()


@app.command(
    epilog=examples(
        "tokenflow keyframes clip.mp4 --frames 0,12,23",
        "tokenflow keyframes configs/dog_to_tiger.yaml --frames 0 --output tiger",
    )
)
def keyframes(
    source: Annotated[Path, typer.Argument(help="A clip, or a YAML file that names one.", metavar="CLIP|CONFIG")],
    frames: Annotated[str, typer.Option(help="Which frames, counted from 0.", metavar="N[,N…]")],
    output: Annotated[Path, typer.Option(help="Folder for the images; created if missing.")] = Path("keyframes"),
) -> None:
    """Write frames of a clip to edit in any image editor or with any image model, for edit.mode=keyframes."""
    import tokenflow
    from tokenflow.pipeline.clip import open_clip
    from tokenflow.pipeline.keyframes import write_keyframes

    indices = frame_numbers(frames)
    is_config = source.suffix.lower() in (".yaml", ".yml")
    clip = open_clip(tokenflow.load_config(source).clip) if is_config else tokenflow.Video.read(source)
    paths = write_keyframes(clip, indices, output)
    print_lines(*map(str, paths), f"Edit them, then: edit.mode=keyframes edit.keyframes.frames={output}")

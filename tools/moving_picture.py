"""Make the moving picture of the README: clips, their edits frame by frame, and their edits by TokenFlow, side by side.

    python -m tools.moving_picture      # edits two bundled clips, and writes docs/moving_picture.webp
    python -m tools.moving_picture --results outputs/per_frame outputs/dog_to_tiger --output mine.webp

The second form makes the picture of two result folders of one clip.
"""

import argparse
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import tokenflow

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "data" / "models" / "mini-sd"
CLIPS = ROOT / "data" / "clips"
TARGET = ROOT / "docs" / "moving_picture.webp"

EDITS = {
    "cat_walk.mp4": ("a cat on a wooden floor, 3d style", "a golden cat on a wooden floor, 3d style"),
    "car_drive.mp4": ("a car on a road, 3d style", "a bus on a road, 3d style"),
}
"""The rows of the picture: clip -> what it shows, and what its edit shows."""

SOURCE, PER_FRAME, TOKENFLOW = "source", "per frame", "tokenflow"

SCALE = 2
"""By how much frames of the bundled clips (128 pixels) are enlarged."""

GAP, LABEL_HEIGHT, LABEL_SIZE = 8, 28, 16
"""In pixels: between frames, of the labels above the columns, and of their font."""

MAX_BYTES = 3_000_000
QUALITIES = (90, 80, 70, 60, 50)
"""Of WebP, from the best down: the first that fits into MAX_BYTES is taken."""

Row = Mapping[str, np.ndarray]
"""Frames f H W 3 uint8 by the label of their column."""


def make_row(clip: tokenflow.Video, model: object, prompt: str, edit: str) -> Row:
    """Edit a clip frame by frame and by TokenFlow."""
    with tokenflow.TerminalBars() as bars:
        inverted = tokenflow.invert(clip, model, prompt, store="trajectories", on_event=bars)
        alone = tokenflow.edit(inverted, edit, propagation="none", on_event=bars)
        together = tokenflow.edit(inverted, edit, on_event=bars)
    return {SOURCE: clip.frames, PER_FRAME: alone.frames, TOKENFLOW: together.frames}


def read_row(per_frame: Path, together: Path) -> tuple[tokenflow.Video, Row]:
    """The clip of two result folders, and the row that they make."""
    settings = tokenflow.load_config(together / "config.yaml", environment={}).clip
    clip = tokenflow.Video.read(settings.path, start=settings.start, frames=settings.frames, every=settings.every)
    edits = {PER_FRAME: per_frame, TOKENFLOW: together}
    return clip, {SOURCE: clip.frames} | {label: tokenflow.open_result(path).frames for label, path in edits.items()}


def durations(clip: tokenflow.Video) -> list[int]:
    """How long each frame is shown, in milliseconds; rounding does not add up."""
    bounds = [round(1000 * (time - clip.times[0])) for time in (*clip.times, clip.end)]
    return [after - before for before, after in pairwise(bounds)]


def compose(rows: Sequence[Row], index: int, scale: int = SCALE) -> Image.Image:
    """One frame of the picture: a row per clip, a label above each column."""
    height, width = (scale * side for side in rows[0][SOURCE].shape[1:3])
    labels = list(rows[0])
    size = len(labels) * (width + GAP) - GAP, LABEL_HEIGHT + len(rows) * (height + GAP) - GAP
    canvas = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(LABEL_SIZE)
    for column, label in enumerate(labels):
        left = column * (width + GAP)
        draw.text((left + width // 2, LABEL_HEIGHT // 2), label, fill="black", font=font, anchor="mm")
        for row, images in enumerate(rows):
            enlarged = Image.fromarray(images[label][index]).resize((width, height), Image.Resampling.LANCZOS)
            canvas.paste(enlarged, (left, LABEL_HEIGHT + row * (height + GAP)))
    return canvas


def write_animation(frames: Sequence[Image.Image], milliseconds: Sequence[int], path: Path) -> None:
    """Write an endless animated WebP, as good as MAX_BYTES allows.

    Raises:
        ValueError: it is larger even at the lowest quality.
    """
    first, *others = frames
    for quality in QUALITIES:
        options = {"append_images": others, "duration": list(milliseconds), "loop": 0, "quality": quality, "method": 6}
        first.save(path, save_all=True, **options)
        if path.stat().st_size <= MAX_BYTES:
            return
    raise ValueError(f"{path} has {path.stat().st_size} bytes, more than {MAX_BYTES}; use fewer or smaller frames")


def main() -> None:
    """Make or read the edits, and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", nargs=2, type=Path, metavar=("PER_FRAME", "TOKENFLOW"), help="two result folders")
    parser.add_argument("--output", type=Path, default=TARGET)
    arguments = parser.parse_args()
    if arguments.results:
        clip, row = read_row(*arguments.results)
        rows = [row]
    else:
        model = tokenflow.load_model(MODEL)
        clips = {name: tokenflow.Video.read(CLIPS / name) for name in EDITS}
        clip = next(iter(clips.values()))
        rows = [make_row(clips[name], model, *prompts) for name, prompts in EDITS.items()]
    frames = [compose(rows, index) for index in range(len(clip))]
    write_animation(frames, durations(clip), arguments.output)
    print(f"{arguments.output}  {arguments.output.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()

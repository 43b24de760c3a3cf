"""Stage: writes the clips that ship with the project, each with its perfect edits, into data/clips/."""

import argparse
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from tools.mini_sd.clip import Clip, Motion
from tools.mini_sd.scene import Camera, Pose, Scene
from tools.mini_sd.words import Words

FRAMES_A_SECOND = 12

CLIPS = {
    "dog_walk": Clip(
        Scene(Words("dog"), Pose(0.17, 0.33, 0.64), variant=2),
        Motion(travel=(-0.36, 0.0), growth=1.04, swing=0.035, bob=0.035, strides=3),
    ),
    "cat_walk": Clip(
        Scene(Words("cat", background="a wooden floor"), Pose(0.10, 0.30, 0.62), Camera(-0.1, -0.02), variant=3),
        Motion(travel=(-0.28, 0.06), growth=1.15, swing=0.025, bob=0.025, strides=4),
    ),
    "car_drive": Clip(
        Scene(Words("car", background="a road"), Pose(0.38, 0.30, 0.66), Camera(0.30, -0.02), variant=5),
        Motion(travel=(-0.62, 0.02), growth=1.05, swing=0.012, bob=0.012, strides=5, pan=(-0.42, 0.0), zoom=1.08),
    ),
}
PERFECT_EDITS = {
    "dog_walk": {
        "tiger": {"object": "tiger"},
        "golden_tiger": {"object": "tiger", "material": "golden"},
        "dog_on_snow": {"background": "snow"},
    },
    "cat_walk": {"golden_cat": {"material": "golden"}, "marble_cat": {"material": "marble"}},
    "car_drive": {"bus": {"object": "bus"}, "car_at_night": {"light": "night"}},
}

KEYFRAMES = {"car_to_bus": ("car_drive", "bus", (0, 23))}
"""Folders of data/keyframes/: frames of a perfect edit, for the mode that carries edited frames."""


def write_video(pictures: np.ndarray, file: Path) -> None:
    """Pictures f H W 3 in [0,1] as H.264, near lossless, in the 4:2:0 that every player knows."""
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", Fraction(FRAMES_A_SECOND))
        stream.height, stream.width = pictures.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "8", "preset": "veryslow"}
        for picture in np.round(pictures * 255).astype(np.uint8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def write_keyframes(clip: Clip, frames: Sequence[int], folder: Path) -> None:
    """Frames of a clip as frame_00000.png and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = clip.pictures()
    for frame in frames:
        Image.fromarray((pictures[frame] * 255).round().astype(np.uint8)).save(folder / f"frame_{frame:05d}.png")


def main() -> None:
    """Writes every clip and its perfect edits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("data/clips"))
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for name, clip in CLIPS.items():
        write_video(clip.pictures(), out / f"{name}.mp4")
        for edit, words in PERFECT_EDITS[name].items():
            write_video(clip.with_words(**words).pictures(), out / f"{name}.perfect_{edit}.mp4")
        print(f"{name}: {clip.frames} frames and {len(PERFECT_EDITS[name])} perfect edits")
    for folder, (name, edit, frames) in KEYFRAMES.items():
        write_keyframes(CLIPS[name].with_words(**PERFECT_EDITS[name][edit]), frames, out.parent / "keyframes" / folder)


if __name__ == "__main__":
    main()

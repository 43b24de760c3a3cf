"""`make references`: whether an edit takes the look of a reference, on drawn clips.

    python -m benchmarks.references

The reference is a drawn golden tiger in a scene of its own, and the prompt says a tiger, not a golden one. `material`
is the share of frames in which the classifier sees gold, `object` that in which it sees a tiger, and `kept` that of the
clip's own background and light. Weights and kinds are compared on tuning clips, and the default is measured on the
others, in each mode, and in the region of the object. Writes benchmarks/results/references.json and
docs/references.jpg.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tokenflow
from benchmarks.cells import classifier
from benchmarks.clips import BENCHMARK, TUNING
from benchmarks.output import rows_table, write_json
from benchmarks.sampling import DTYPE, RATE
from tokenflow.diffusion.batches import as_tensor
from tokenflow.report import contact_sheet
from tools.mini_sd.captions import caption
from tools.mini_sd.clip import Clip
from tools.mini_sd.scene import Pose, Scene, render
from tools.mini_sd.words import Words

RESULTS, SHEET = Path("benchmarks/results/references.json"), Path("docs/references.jpg")
MODEL = "data/models/mini-sd"
SHOWN = "cow_strolls"
MODES = {"pnp": tokenflow.PnP(), "sdedit": tokenflow.SDEdit(), "controlnet": tokenflow.ControlNet()}
FIGURES = ("material", "object", "kept", "seconds")
FRAMES = 8
"""Of each clip, from its beginning."""

WEIGHTS = (0.5, 1.0)
CHOSEN = {
    "tuning": ("horse_trots", "pig_on_planks"),
    "benchmark": ("cow_strolls", "horse_gallops", "pig_far", "dog_by_a_wall"),
}
"""Clips of animals of no material, of the lists in clips.py."""


def reference_image(style: str) -> np.ndarray:
    """A golden tiger on snow, H W 3 uint8."""
    scene = Scene(Words("tiger", "golden", style, "snow"), Pose(0.02, 0.33, 0.72), variant=3)
    return (render(scene).picture * 255).round().astype(np.uint8)


@dataclass(frozen=True)
class Inverted:
    """A drawn clip of an animal, inverted.

    Attributes:
        name: the clip's.
        words: what it shows.
        source: the inverted clip.
    """

    name: str
    words: Words
    source: tokenflow.InvertedClip

    @property
    def prompt(self) -> str:
        """The edit's: a tiger, of no material."""
        return caption(Words("tiger", "plain", self.words.style, self.words.background, self.words.light))

    def edited(self, **settings: Any) -> tokenflow.Edited:
        """An edit with the reference, unless `references` says otherwise."""
        reference = tokenflow.Reference(reference_image(self.words.style), **settings.pop("reference", {}))
        return tokenflow.edit(self.source, self.prompt, **{"references": [reference], **settings})

    def row(self, label: str, **settings: Any) -> dict[str, Any]:
        """The figures of one edit."""
        start = time.process_time()
        edited = self.edited(**settings)
        seconds = time.process_time() - start
        return {"clip": self.name, "edit": label, **seen(edited.frames, self.words), "seconds": seconds}


def seen(frames: np.ndarray, before: Words) -> dict[str, float]:
    """The shares of frames (f H W 3 uint8) in which the classifier sees gold, a tiger, and what the clip had."""
    network = classifier()
    if network is None:
        raise SystemExit("expected the classifier data/models/mini-classifier, which is missing")
    with torch.no_grad():
        found = {kind: logits.argmax(1) for kind, logits in network(as_tensor(frames)).items()}

    def share(kind: str, word: str) -> float:
        return float((found[kind] == list(network.kinds[kind]).index(word)).float().mean())

    kept = [share("background", before.background), share("light", before.light)]
    return {"material": share("material", "golden"), "object": share("object", "tiger"), "kept": float(np.mean(kept))}


def animals(group: str) -> list[tuple[str, Clip]]:
    """The chosen clips of one group."""
    clips = {case.clip: case.truth.clip for case in (*TUNING, *BENCHMARK)}
    return [(name, clips[name]) for name in CHOSEN[group]]


def inverted(model: Any, clips: list[tuple[str, Clip]]) -> Iterator[Inverted]:
    """Each clip, inverted when it is asked for."""
    for name, clip in clips:
        frames = (clip.pictures()[:FRAMES] * 255).round().astype(np.uint8)
        source = tokenflow.invert(tokenflow.Video(frames, rate=RATE), model, caption(clip.start.words), cuts=())
        yield Inverted(name, clip.start.words, source)


def tuning_rows(clip: Inverted) -> Iterator[dict[str, Any]]:
    """Each kind at each weight."""
    yield clip.row("no reference", references=[])
    for kind in ("identity", "style"):
        for weight in WEIGHTS:
            yield clip.row(f"{kind}, weight {weight:g}", reference={"kind": kind, "weight": weight})


def benchmark_rows(clip: Inverted) -> Iterator[dict[str, Any]]:
    """No reference; the default in each mode; a style; and the default in the object's region."""
    region = [tokenflow.Region(words=clip.words.object)]
    yield clip.row("pnp, no reference", references=[])
    for mode, settings in MODES.items():
        yield clip.row(f"{mode}, identity", mode=settings)
    yield clip.row("pnp, style", reference={"kind": "style"})
    yield clip.row("pnp, identity, in the object's region", regions=region)


def means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The mean of each figure over the clips, by edit."""
    labels = dict.fromkeys(row["edit"] for row in rows)
    return [
        {"edit": label, **{key: float(np.mean([row[key] for row in rows if row["edit"] == label])) for key in FIGURES}}
        for label in labels
    ]


def write_sheet(model: Any) -> None:
    """One clip: its source, edits without and with the reference, and in the region of the object."""
    clip = next(inverted(model, [each for each in animals("benchmark") if each[0] == SHOWN]))
    region = [tokenflow.Region(words=clip.words.object)]
    rows = {
        f"source: {clip.source.prompt}": clip.source.video.frames,
        clip.prompt: clip.edited(references=[]).frames,
        "with the reference on the right": clip.edited().frames,
        "as a style": clip.edited(reference={"kind": "style"}).frames,
        "in the object's region": clip.edited(regions=region).frames,
    }
    shown = np.linspace(0, clip.source.frame_count - 1, 5).round().astype(int)
    reference = reference_image(clip.words.style)
    contact_sheet({label: [*frames[shown], reference] for label, frames in rows.items()}).save(SHEET, quality=92)


def main() -> None:
    """Measure, print, and write the JSON and the sheet."""
    model = tokenflow.load_model(MODEL, device="cpu", dtype=DTYPE)
    content = {}
    for group, rows_of in (("tuning", tuning_rows), ("benchmark", benchmark_rows)):
        rows: list[dict[str, Any]] = []
        for clip in inverted(model, animals(group)):
            for row in rows_of(clip):
                rows.append(row)
                print(rows_table([row]).splitlines()[-1], flush=True)
        content[group] = {"means": means(rows), "rows": rows}
        print(f"\n{group}:\n{rows_table(content[group]['means'])}\n", flush=True)
        write_json(RESULTS, content)
    write_sheet(model)


if __name__ == "__main__":
    main()

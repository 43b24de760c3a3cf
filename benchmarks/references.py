"""`make references`: whether an edit takes the look of a reference, on drawn clips.

    python -m benchmarks.references
    python -m benchmarks.references --only "style, weight 0.5"

The reference is a drawn golden tiger in a scene of its own, and the prompt says a tiger, not a golden one; as a
control, it is of marble. `material` is the share of frames in which the classifier sees the reference's, `object` that
in which it sees a tiger, and `kept` that of the clip's own background and light. Weights and kinds are compared on
tuning clips, and the default is measured on the others, in each mode, and in the region of the object. Writes
benchmarks/results/references.json and docs/references.jpg; with --only, these edits alone are made, and put into the
JSON.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping
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


Edits = Mapping[str, Mapping[str, Any]]
"""By label, what an edit differs in: see `Inverted.edited`."""


def reference_image(style: str, material: str) -> np.ndarray:
    """A tiger on snow, H W 3 uint8."""
    scene = Scene(Words("tiger", material, style, "snow"), Pose(0.02, 0.33, 0.72), variant=3)
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

    def edited(
        self, *, material: str = "golden", kind: Any = "identity", weight: float = 1.0, **settings: Any
    ) -> tokenflow.Edited:
        """An edit with a reference of a material, unless `references` says otherwise."""
        reference = tokenflow.Reference(reference_image(self.words.style, material), weight, kind)
        return tokenflow.edit(self.source, self.prompt, **{"references": [reference], **settings})

    def row(self, label: str, *, material: str = "golden", **settings: Any) -> dict[str, Any]:
        """The figures of one edit."""
        start = time.process_time()
        edited = self.edited(material=material, **settings)
        seconds = time.process_time() - start
        return {"clip": self.name, "edit": label, **seen(edited.frames, self.words, material), "seconds": seconds}


def seen(frames: np.ndarray, before: Words, material: str) -> dict[str, float]:
    """The shares of frames (f H W 3 uint8) in which the classifier sees a material, a tiger, and what the clip had."""
    network = classifier()
    if network is None:
        raise SystemExit("expected the classifier data/models/mini-classifier, which is missing")
    with torch.no_grad():
        found = {kind: logits.argmax(1) for kind, logits in network(as_tensor(frames)).items()}

    def share(kind: str, word: str) -> float:
        return float((found[kind] == list(network.kinds[kind]).index(word)).float().mean())

    kept = [share("background", before.background), share("light", before.light)]
    return {"material": share("material", material), "object": share("object", "tiger"), "kept": float(np.mean(kept))}


def animals(group: str) -> list[tuple[str, Clip]]:
    """The chosen clips of one group."""
    clips = {case.clip: case.truth.clip for case in (*TUNING, *BENCHMARK)}
    return [(name, clips[name]) for name in CHOSEN[group]]


def inverted(model: Any, name: str, clip: Clip) -> Inverted:
    """A clip, inverted."""
    frames = (clip.pictures()[:FRAMES] * 255).round().astype(np.uint8)
    source = tokenflow.invert(tokenflow.Video(frames, rate=RATE), model, caption(clip.start.words), cuts=())
    return Inverted(name, clip.start.words, source)


def tuning_edits(words: Words) -> Edits:
    """Each kind at each weight."""
    kinds = [(kind, weight) for kind in ("identity", "style") for weight in WEIGHTS]
    with_reference = {f"{kind}, weight {weight:g}": {"kind": kind, "weight": weight} for kind, weight in kinds}
    return {"no reference": {"references": []}, **with_reference}


def benchmark_edits(words: Words) -> Edits:
    """No reference; the default in each mode; another reference; a style; and the default in the object's region."""
    return {
        "pnp, no reference": {"references": []},
        **{f"{mode}, identity": {"mode": settings} for mode, settings in MODES.items()},
        "pnp, identity of marble": {"material": "marble"},
        "pnp, style": {"kind": "style"},
        "pnp, identity, in the object's region": {"regions": [tokenflow.Region(words=words.object)]},
    }


GROUPS: dict[str, Callable[[Words], Edits]] = {"tuning": tuning_edits, "benchmark": benchmark_edits}


def measured(model: Any, group: str, only: list[str] | None, former: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a group; with `only`, those of other edits as they were."""
    kept = {(row["clip"], row["edit"]): row for row in former}
    rows = []
    for name, clip in animals(group):
        edits = GROUPS[group](clip.start.words)
        chosen = [label for label in edits if only is None or label in only]
        source = inverted(model, name, clip) if chosen else None
        for label, settings in edits.items():
            if source is not None and label in chosen:
                rows.append(source.row(label, **settings))
                print(rows_table(rows[-1:]).splitlines()[-1], flush=True)
            elif (name, label) in kept:
                rows.append(kept[name, label])
    return rows


def means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The mean of each figure over the clips, by edit."""
    labels = dict.fromkeys(row["edit"] for row in rows)
    return [
        {"edit": label, **{key: float(np.mean([row[key] for row in rows if row["edit"] == label])) for key in FIGURES}}
        for label in labels
    ]


def write_sheet(model: Any) -> None:
    """One clip: its source, edits without and with the reference, and in the region of the object."""
    clip = inverted(model, SHOWN, dict(animals("benchmark"))[SHOWN])
    region = [tokenflow.Region(words=clip.words.object)]
    rows = {
        f"source: {clip.source.prompt}": clip.source.video.frames,
        clip.prompt: clip.edited(references=[]).frames,
        "with the reference on the right": clip.edited().frames,
        "as a style": clip.edited(kind="style").frames,
        "in the object's region": clip.edited(regions=region).frames,
    }
    shown = np.linspace(0, clip.source.frame_count - 1, 5).round().astype(int)
    reference = reference_image(clip.words.style, "golden")
    contact_sheet({label: [*frames[shown], reference] for label, frames in rows.items()}).save(SHEET, quality=92)


def main() -> None:
    """Measure, print, and write the JSON and the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="EDIT", help="edits by their labels in the JSON")
    only = parser.parse_args().only
    model = tokenflow.load_model(MODEL, device="cpu", dtype=DTYPE)
    content = json.loads(RESULTS.read_text(encoding="utf-8")) if only else {}
    for group in GROUPS:
        rows = measured(model, group, only, content[group]["rows"] if only else [])
        content[group] = {"means": means(rows), "rows": rows}
        print(f"\n{group}:\n{rows_table(content[group]['means'])}\n", flush=True)
        write_json(RESULTS, content)
    if not only:
        write_sheet(model)


if __name__ == "__main__":
    main()

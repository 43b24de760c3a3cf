"""`make regions`: what regions keep of the source, and what they cost, on drawn clips whose true regions are known.

    python -m benchmarks.regions [--modes pnp sdedit controlnet]

Each edit is made of the whole frame, with `regions="auto"`, and, where it changes an object or its material, in the
region of the object's word and in the true region as a mask. The true region is where the source's object, the perfect
edit's, or a shadow of either is. Writes benchmarks/results/regions.json and docs/regions.jpg.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import tokenflow
from benchmarks.cells import agreement
from benchmarks.clips import BENCHMARK, TUNING, Case
from benchmarks.output import rows_table, write_json
from benchmarks.sampling import DTYPE
from benchmarks.truth import ON_OBJECT, Truth, shipped
from tokenflow.report import contact_sheet, marked

RESULTS = Path("benchmarks/results/regions.json")
SHEET, SHOWN = Path("docs/regions.jpg"), ("car_drive", "bus")
MODEL = "data/models/mini-sd"
MODES = {"pnp": tokenflow.PnP(), "sdedit": tokenflow.SDEdit(), "controlnet": tokenflow.ControlNet()}
BEYOND = 8
"""Pixels from the true region at which nothing at all should change."""
IDENTICAL = 99.0
"""PSNR of images that are the same, which is infinite."""
FIGURES = ("outside", "beyond", "inside", "agreement", "iou", "time")


@dataclass(frozen=True)
class Measured:
    """A clip, inverted, with one edit of it.

    Attributes:
        name: of clip and edit.
        kind: of the edit.
        truth: its ground truth.
        inverted: the clip.
    """

    name: str
    kind: str
    truth: Truth
    inverted: tokenflow.InvertedClip

    @cached_property
    def beyond(self) -> np.ndarray:
        """f H W, True further than `BEYOND` pixels from the true region."""
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * BEYOND + 1, 2 * BEYOND + 1))
        return np.stack([cv2.dilate(mask.astype(np.uint8), disc) == 0 for mask in self.truth.meant])

    @property
    def on_object(self) -> bool:
        """Whether the edit changes an object or its material, and nothing else."""
        return self.truth.changed <= ON_OBJECT

    def regions(self) -> dict[str, Any]:
        """The regions that are tried, by name."""
        tried: dict[str, Any] = {"whole frame": (), "auto": "auto"}
        if self.on_object:
            tried["words"] = [tokenflow.Region(words=self.truth.clip.start.words.object)]
            tried["true mask"] = [tokenflow.Region(mask=self.truth.meant, feather=0)]
        return tried

    def rows(self, mode: str) -> Iterator[dict[str, Any]]:
        """A row per region."""
        whole = 0.0
        for name, regions in self.regions().items():
            start = time.process_time()
            edited = tokenflow.edit(self.inverted, self.truth.prompts[1], mode=MODES[mode], regions=regions)
            seconds = time.process_time() - start
            whole = whole or seconds
            yield {
                "edit": self.name,
                "kind": self.kind,
                "mode": mode,
                "region": name,
                "everywhere": any(region.everywhere for region in edited.regions),
                **self.figures(edited),
                "time": seconds / whole,
            }

    def figures(self, edited: tokenflow.Edited) -> dict[str, float | None]:
        """PSNR to the source outside the true region and beyond its surroundings, and to the perfect edit inside; how
        often the classifier sees the prompt; and how well the region agrees with the true one."""
        truth, frames = self.truth, edited.frames
        perfect = truth.perfect * 255
        masks = None if edited.masks is None else edited.masks > 127
        return {
            "outside": psnr(frames, truth.frames, ~truth.meant) if self.on_object else None,
            "beyond": psnr(frames, truth.frames, self.beyond) if self.on_object else None,
            "inside": psnr(frames, perfect, truth.meant),
            "agreement": agreement(truth, frames)["agreement"],
            "iou": None if masks is None else float((masks & truth.meant).sum() / (masks | truth.meant).sum()),
        }


def psnr(images: np.ndarray, reference: np.ndarray, where: np.ndarray) -> float:
    """PSNR in dB over the pixels of a mask (f H W), of images f H W 3 from 0 to 255."""
    error = float(np.square((images - reference.astype(np.float64))[where] / 255).mean())
    return IDENTICAL if error == 0 else float(-10 * np.log10(error))


def measured(cases: list[Case]) -> Iterator[Measured]:
    """Each case with its clip inverted; clips of several edits once."""
    model = tokenflow.load_model(MODEL, device="cpu", dtype=DTYPE)
    clips: dict[str, tokenflow.InvertedClip] = {}
    for case in cases:
        if case.clip not in clips:
            clip = tokenflow.Video(case.truth.frames, rate=12)
            clips = {case.clip: tokenflow.invert(clip, model, case.truth.prompts[0])}
        yield Measured(case.name, case.kind, case.truth, clips[case.clip])


def means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The mean of each figure over edits of objects and materials, and over the others, by mode and region."""
    averaged = []
    for on_object in (True, False):
        chosen = [row for row in rows if (row["kind"] in ON_OBJECT) == on_object]
        for mode, region in dict.fromkeys((row["mode"], row["region"]) for row in chosen):
            own = [row for row in chosen if (row["mode"], row["region"]) == (mode, region)]
            figures = {key: [row[key] for row in own if row[key] is not None] for key in FIGURES}
            averaged.append(
                {
                    "edits": "object, material" if on_object else "style, background, light",
                    "mode": mode,
                    "region": region,
                    "everywhere": float(np.mean([row["everywhere"] for row in own])),
                    **{key: float(np.mean(values)) if values else None for key, values in figures.items()},
                }
            )
    return averaged


def write_sheet() -> None:
    """One edit: source, edit of the whole frame, edit with `auto`, and its region, six frames each."""
    truth = shipped(*SHOWN)
    source, target = truth.prompts
    model = tokenflow.load_model(MODEL, device="cpu", dtype=DTYPE)
    inverted = tokenflow.invert(tokenflow.Video(truth.frames, rate=24), model, source)
    whole, auto = (tokenflow.edit(inverted, target, regions=regions) for regions in ((), "auto"))
    masks = np.full(truth.frames.shape[:3], 255, np.uint8) if auto.masks is None else auto.masks
    rows = {
        f"source: {source}": truth.frames,
        f"{target}, whole frame": whole.frames,
        f"{target}, regions: auto": auto.frames,
        "what the edit may change": np.stack([marked(*pair) for pair in zip(truth.frames, masks, strict=True)]),
    }
    shown = np.linspace(0, len(truth.frames) - 1, 6).round().astype(int)
    contact_sheet({label: list(frames[shown]) for label, frames in rows.items()}).save(SHEET, quality=92)


def main() -> None:
    """Measure, print, and write the JSON and the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    modes = parser.parse_args().modes
    write_sheet()
    content = {}
    for group, cases in (("benchmark", BENCHMARK), ("tuning", TUNING)):
        rows = []
        for edit in measured(cases):
            for mode in modes:
                rows += edit.rows(mode)
                print(rows_table(rows[-4:]), flush=True)
        content[group] = {"means": means(rows), "rows": rows}
        print(f"{group}:\n{rows_table(content[group]['means'])}\n", flush=True)
        write_json(RESULTS, content)


if __name__ == "__main__":
    main()

"""Several prompts or seeds at once, from one inversion."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

MAX_VARIANTS = 9
"""Edits of one comparison."""

VARIATION = "0.5"
"""`edit.variation` of seeds that would otherwise hardly differ."""


@dataclass(frozen=True)
class CompareTab:
    """The components that others refer to.

    Attributes:
        prompts: one per line.
        by_prompt: starts an edit per prompt.
        seeds: how many.
        by_seed: starts an edit per seed.
    """

    prompts: Any
    by_prompt: Any
    seeds: Any
    by_seed: Any


def build() -> CompareTab:
    """The tab; jobs are started by page.py."""
    gr.HTML("<p>Clip and settings are those of the tab Edit. The clip is inverted once; every edit is kept.</p>")
    with gr.Row(equal_height=False):
        with gr.Column(min_width=300):
            prompts = gr.Textbox(
                label="What it should show, one sentence per line",
                info=f"At most {MAX_VARIANTS}",
                lines=4,
                max_lines=MAX_VARIANTS,
                elem_id="prompts",
            )
            by_prompt = gr.Button("Compare sentences", variant="primary", elem_id="compare-prompts")
        with gr.Column(min_width=300):
            seeds = gr.Slider(
                2,
                MAX_VARIANTS,
                3,
                step=1,
                label="Number of seeds",
                info=f"From the seed of the tab Edit on. Where edit.variation is empty, {VARIATION} is taken, as seeds "
                "would hardly differ without it.",
                elem_id="seeds",
            )
            by_seed = gr.Button("Compare seeds", variant="primary", elem_id="compare-seeds")
    return CompareTab(prompts, by_prompt, seeds, by_seed)


def by_prompts(values: dict[str, str], prompts: str) -> list[dict[str, str]]:
    """The form once per line of prompts."""
    lines = [line.strip() for line in prompts.splitlines() if line.strip()]
    return [values | {"edit.prompt": line} for line in lines[:MAX_VARIANTS]]


def by_seeds(values: dict[str, str], count: int) -> list[dict[str, str]]:
    """The form once per seed."""
    first = int(values["edit.seed"]) if values["edit.seed"].strip().isdecimal() else 0
    variation = values["edit.variation"].strip() or VARIATION
    seeds = range(first, first + min(count, MAX_VARIANTS))
    return [values | {"edit.seed": str(seed), "edit.variation": variation} for seed in seeds]

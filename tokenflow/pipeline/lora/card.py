"""The model card of a trained LoRA, as the Hub shows it."""

import json

from tokenflow.config import LoRATraining
from tokenflow.models.checkpoints.hub import is_hub_id
from tokenflow.models.presets import full_name

CARD = "README.md"

TEMPLATE = """---
{base}library_name: diffusers
tags:
- lora
- text-to-image
instance_prompt: {caption}
---

# LoRA: {title}

Trained with `tokenflow train-lora` on images of {caption}, {steps} steps of {batch} at a learning rate of {rate:g}.
Rank {rank}, layers: {layers}.

    tokenflow edit clip.mp4 --from "…" --to {caption} 'model.path={model}' 'model.loras=[{{path: {place}}}]'

In diffusers: `pipeline.load_lora_weights("{place}")`.
"""


def model_card(settings: LoRATraining, steps: int) -> str:
    """The card of a LoRA after so many steps. What is pushed names its repository, and no folder of this machine."""
    model = full_name(settings.model.path)
    on_hub = is_hub_id(model)
    place = settings.push or settings.output.as_posix()
    return TEMPLATE.format(
        base=f"base_model: {json.dumps(model)}\n" if on_hub else "",  # the Hub takes nothing but an id
        caption=json.dumps(settings.caption, ensure_ascii=False),
        title=place.rpartition("/")[2],
        steps=steps,
        batch=settings.batch_size,
        rate=settings.learning_rate,
        rank=settings.rank,
        layers=settings.layers,
        model=model if on_hub or settings.push is None else model.replace("\\", "/").rpartition("/")[2],
        place=place,
    )

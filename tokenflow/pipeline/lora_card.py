"""The model card of a trained LoRA, as the Hub shows it."""

import json

from tokenflow.config import LoRATraining

CARD = """---
base_model: {base}
library_name: diffusers
tags:
- lora
- text-to-image
instance_prompt: {caption}
---

# LoRA: {title}

Trained with `tokenflow train-lora` on images of {caption}, {steps} steps of {batch} at a learning rate of {rate:g}.
Rank {rank}, layers: {layers}.

    tokenflow edit clip.mp4 --from "…" --to {caption} 'model.path={model}' 'model.loras=[{{path: {folder}}}]'

In diffusers: `pipeline.load_lora_weights("{folder}")`.
"""


def model_card(settings: LoRATraining, steps: int) -> str:
    """The card of a LoRA after so many steps."""
    return CARD.format(
        base=json.dumps(settings.model.path),
        caption=json.dumps(settings.caption, ensure_ascii=False),
        title=settings.output.name,
        steps=steps,
        batch=settings.batch_size,
        rate=settings.learning_rate,
        rank=settings.rank,
        layers=settings.layers,
        model=settings.model.path,
        folder=settings.output.as_posix(),
    )

"""generate(): images from a prompt, with the sampler that edits use."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from tokenflow.config import Edit
from tokenflow.diffusion.batches import as_images, batches, image_batches
from tokenflow.diffusion.latents import Latents
from tokenflow.diffusion.sampling import sample
from tokenflow.diffusion.schedules import Step
from tokenflow.errors import ConfigError
from tokenflow.events import Cancel, Listener, listening, track
from tokenflow.models.interruptible import interruptible
from tokenflow.models.model import Model, token_count
from tokenflow.pipeline.inversion import MAX_PIXELS, MAX_SIDE
from tokenflow.pipeline.validation import check_count, check_model, validated
from tokenflow.pipeline.wiring import build_guidance
from tokenflow.video import fit_size

DEFAULTS = Edit(prompt="")


def generate(
    model: Model,
    prompt: str,
    *,
    negative_prompt: str = "",
    size: tuple[int, int] | None = None,
    steps: int | None = None,
    guidance_scale: float = DEFAULTS.guidance_scale,
    seed: int = DEFAULTS.seed,
    count: int = 1,
    batch_size: int = DEFAULTS.batch_size,
    on_event: Listener | None = None,
    cancel: Cancel | None = None,
) -> np.ndarray:
    """Make images from a prompt: the same images as diffusers' pipeline with a DDIM scheduler, from the same seed.

    Args:
        model: what makes them.
        prompt: what they should show.
        negative_prompt: what they should not show.
        size: (width, height) in pixels, rounded to what the model takes; None for its native size.
        steps: sampling steps; None for 25, or for as few as the model was made for.
        guidance_scale: how strongly the prompt is enforced, at least 1.
        seed: of the initial noise.
        count: how many images.
        batch_size: images per network call.
        on_event: called with each event (see `tokenflow.events`).
        cancel: asked before every network call; returning True raises `Cancelled`.

    Returns:
        count H W 3 uint8.

    Raises:
        TypeError: `model` is not loaded.
        ConfigError: a value is out of range.
        Cancelled: `cancel` returned True.
    """
    check_model("generate", model)
    few_step = model.schedule.few_step
    settings = validated(
        Edit,
        prompt=prompt,
        negative_prompt=negative_prompt,
        steps=(few_step.steps if few_step else DEFAULTS.steps) if steps is None else steps,
        guidance_scale=guidance_scale,
        seed=seed,
        batch_size=batch_size,
    )
    check_count("count", count)
    width, height = _image_size(model, size)
    with listening(on_event):
        model = interruptible(model, cancel)
        guidance = build_guidance(model, prompt, negative_prompt, settings.guidance_scale, (width, height))
        generator = torch.Generator("cpu").manual_seed(settings.seed)
        start = model.draw_noise(count, (width, height), generator)
        taken = model.schedule.steps(settings.steps, tokens=token_count(model, (width, height)))

        def predict(latents: Latents, step: Step) -> Iterator[tuple[list[int], Tensor]]:
            for indices in batches(range(len(latents)), settings.batch_size):
                branches = model.predict(latents[indices], step.at, guidance.branches)
                yield indices, guidance.combine(*guidance.split(branches))

        adds_noise = few_step is not None and few_step.renoises
        noises = [model.draw_noise(count, (width, height), generator) for _ in taken] if adds_noise else []
        renoise = (lambda indices, step: noises[step.index][indices]) if adds_noise else None
        loop = sample(start, taken, predict, model.schedule.parametrisation, renoise=renoise)
        *_, latents = track(loop, "generate", on_event, total=len(taken))
        groups = image_batches(count, settings.batch_size, (width, height))
        return np.concatenate([as_images(model.decode(latents[indices])) for indices in groups])


def _image_size(model: Model, size: tuple[int, int] | None) -> tuple[int, int]:
    """Width and height of the images in pixels."""
    if size is None:
        return model.native_size, model.native_size
    if not isinstance(size, Sequence) or len(size) != 2:
        raise ConfigError(f"size: expected (width, height) in pixels, got {size!r}")
    for side in size:
        check_count("size", side)
    if max(size) > MAX_SIDE or size[0] * size[1] > MAX_PIXELS:
        raise ConfigError(f"size: expected at most {MAX_PIXELS} pixels, {MAX_SIDE} on the longer side; got {size!r}")
    return fit_size(*size, None, model.size_multiple)

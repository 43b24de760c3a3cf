"""generate(): images from a prompt, with the sampler that edits use."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from tokenflow.config import Edit
from tokenflow.diffusion.batches import as_images, batches
from tokenflow.diffusion.latents import Latents
from tokenflow.diffusion.sampling import sample
from tokenflow.diffusion.schedules import Step
from tokenflow.errors import ConfigError
from tokenflow.events import Cancel, Listener, listening, track
from tokenflow.models.interruptible import interruptible
from tokenflow.models.model import Model
from tokenflow.pipeline.validation import validated
from tokenflow.pipeline.wiring import build_guidance
from tokenflow.video import fit_size

DEFAULTS = Edit(prompt="")


def generate(
    model: Model,
    prompt: str,
    *,
    negative_prompt: str = "",
    size: tuple[int, int] | None = None,
    steps: int = DEFAULTS.steps,
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
        steps: sampling steps.
        guidance_scale: how strongly the prompt is enforced, at least 1.
        seed: of the initial noise.
        count: how many images.
        batch_size: images per network call.
        on_event: called with each event (see `tokenflow.events`).
        cancel: asked before every network call; returning True raises `Cancelled`.

    Returns:
        count H W 3 uint8.

    Raises:
        ConfigError: a value is out of range.
        Cancelled: `cancel` returned True.
    """
    settings = validated(
        Edit, prompt=prompt, steps=steps, guidance_scale=guidance_scale, seed=seed, batch_size=batch_size
    )
    if count < 1:
        raise ConfigError(f"count: expected 1 or more, got {count}")
    width, height = fit_size(*(size or (model.native_size, model.native_size)), None, model.size_multiple)
    with listening(on_event):
        model = interruptible(model, cancel)
        guidance = build_guidance(model, prompt, negative_prompt, settings.guidance_scale, (width, height))
        start = _initial_noise(model, width, height, settings.seed, count)
        taken = _steps(model, start, settings.steps)

        def predict(latents: Latents, step: Step) -> Iterator[tuple[list[int], Tensor]]:
            for indices in batches(range(len(latents)), settings.batch_size):
                branches = model.predict(latents[indices], step.at, guidance.branches)
                yield indices, guidance.combine(*guidance.split(branches))

        loop = sample(start, taken, predict, model.schedule.parametrisation)
        *_, latents = track(loop, "generate", on_event, total=len(taken))
        groups = batches(range(count), settings.batch_size)
        return np.concatenate([as_images(model.decode(latents[indices])) for indices in groups])


def _initial_noise(model: Model, width: int, height: int, seed: int, count: int) -> Tensor:
    """Standard Gaussian noise f c h w, drawn as diffusers' pipelines draw it from a generator on the CPU."""
    shape = count, model.latent_channels, height // model.pixels_per_latent, width // model.pixels_per_latent
    return torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed))


def _steps(model: Model, latents: Tensor, count: int) -> tuple[Step, ...]:
    scale = min(site.scale for site in model.sites)
    return model.schedule.steps(count, tokens=(latents.shape[-2] // scale) * (latents.shape[-1] // scale))

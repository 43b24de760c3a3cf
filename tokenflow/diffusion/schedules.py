"""The noise levels that sampling visits: schedules of diffusion and flow models, from a scheduler's configuration."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import torch
from diffusers import DDIMScheduler, LCMScheduler
from torch import Tensor

from tokenflow.diffusion.few_step import SPRINT, FewStep
from tokenflow.diffusion.levels import CLEAN_TIME, Level
from tokenflow.diffusion.parametrisation import FlowPrediction, NoisePrediction, Parametrisation, VelocityPrediction
from tokenflow.errors import ConfigError, ModelError

NOISIEST_ANGLE, MIDDLE_ANGLE = 1.57080, 1.3
"""SANA-Sprint's first angle, and its second where it takes two steps (Chen et al., arXiv 2503.09641), in radians."""

NOISIEST_OF_STABLE_DIFFUSION = 0.936
"""Share of noise at the last of Stable Diffusion's training steps, where its ᾱ is 0.00466."""

MAX_FITTED_TOKENS = 4300
"""Of FLUX.2: beyond, its shift does not depend on the number of steps."""
USUAL_STEPS = 50
"""Of FLUX.2 [klein] base: the shift at so many steps is that of levels in training."""

TOKEN_AREA = 4
"""Latents per token of FLUX, whose tokens are patches of 2 × 2."""

SPACINGS = ("leading", "linspace", "trailing")
PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")


@dataclass(frozen=True)
class Step:
    """One step of sampling, from level `at` to the cleaner level `to`, the `index`-th of `count`.

    Fractions of all steps are rounded as diffusers rounds them: a step counts if it lies whole within them.
    """

    index: int
    count: int
    at: Level
    to: Level

    def ends_by(self, fraction: float) -> bool:
        """Whether this step ends within the first `fraction` (in [0, 1]) of all steps."""
        return (self.index + 1) / self.count <= fraction

    def starts_from(self, fraction: float) -> bool:
        """Whether this step starts at or after the first `fraction` (in [0, 1]) of all steps."""
        return self.index / self.count >= fraction


@dataclass(frozen=True)
class TrainingBatch:
    """What a network learns from: latents of different images, each at a level of its own.

    Attributes:
        noisy: b c h w, a·x₀ + b·n.
        times: b, the levels as the network is told them.
        target: b c h w, what it should predict.
    """

    noisy: Tensor
    times: Tensor
    target: Tensor


def last_steps(steps: Sequence[Step], share: float) -> Sequence[Step]:
    """The last `share` (in (0, 1]) of all steps, at least one; rounded as diffusers' image-to-image pipelines do."""
    return steps[len(steps) - max(1, min(len(steps), int(len(steps) * share))) :]


def steps_below(steps: Sequence[Step], share: float) -> Sequence[Step]:
    """The steps that start from at most this share of noise; at least the last."""
    return [step for step in steps if step.at.share <= share] or steps[-1:]


class Schedule(Protocol):
    """The noise levels of a model.

    Attributes:
        parametrisation: what its network predicts.
        clean: the level of latents that the autoencoder encodes and decodes.
        few_step: how a model that was distilled to few steps samples; None for one that takes many and can be inverted.
        edits_start_at: the share of noise from which edits start that keep the source's own, at most.
    """

    parametrisation: Parametrisation
    clean: Level
    few_step: FewStep | None
    edits_start_at: float

    def training_batch(self, latents: Tensor, generator: torch.Generator) -> TrainingBatch:
        """Noisy latents at random levels, as the model was trained on them.

        Args:
            latents: b c h w, clean, on the CPU.
            generator: draws levels and noise.

        Raises:
            ModelError: the model was distilled to few steps, and was not trained so.
        """
        ...

    def steps(self, count: int, tokens: int | None = None) -> tuple[Step, ...]:
        """The steps of sampling, noisiest first.

        Args:
            count: how many steps.
            tokens: how many tokens one frame has, for models whose levels depend on it.

        Raises:
            ConfigError: `count` is out of range.
        """
        ...


class DiffusionSchedule:
    """Levels and time steps of a variance-preserving diffusion model, with its own spacing and offset.

    Args:
        config: a diffusers scheduler's configuration. Any scheduler of the Stable Diffusion family will do: they share
            the keys that matter, which are betas, spacing, offset and prediction type.
        few_step: how the model samples if it was distilled to few steps.

    Raises:
        ModelError: the levels are not those of a variance-preserving diffusion (EDM and flow matching have others), or
            the model predicts something other than noise, velocity or the clean sample.
    """

    edits_start_at = 1.0

    def __init__(self, config: Mapping[str, Any], few_step: FewStep | None = None) -> None:
        name = config.get("_class_name", "without a class name")
        has_betas = "beta_start" in config or config.get("trained_betas") is not None
        is_edm = config.get("timestep_type") == "continuous" and config.get("prediction_type") == "v_prediction"
        if not has_betas or is_edm or config.get("use_flow_sigmas"):
            raise ModelError(
                f"the noise levels of the model's scheduler ({name}) are not given by betas; expected one of Stable "
                "Diffusion, not of EDM or flow matching: use another checkpoint of the Stable Diffusion family"
            )
        if config.get("timestep_spacing", SPACINGS[0]) not in SPACINGS:
            raise ModelError(
                f"the model's scheduler ({name}) has timestep_spacing {config['timestep_spacing']!r}; expected one of "
                f"{', '.join(SPACINGS)}: correct its scheduler_config.json"
            )
        self.few_step = few_step
        self._config = {**config, "clip_sample": False, "thresholding": False}
        if few_step is not None:  # what they were distilled for, whichever scheduler lies beside them
            self._config |= {"timestep_spacing": "trailing", "set_alpha_to_one": True}
        try:
            scheduler = DDIMScheduler.from_config(self._config)
        except (NotImplementedError, TypeError, ValueError, RuntimeError) as error:
            raise ModelError(
                f"the betas of the model's scheduler ({name}) are unusable; expected numbers, and as beta_schedule "
                "linear, scaled_linear or squaredcos_cap_v2: correct its scheduler_config.json"
            ) from error
        self.prediction_type: str = scheduler.config.prediction_type
        if self.prediction_type not in PREDICTION_TYPES:
            raise ModelError(
                f"the model's scheduler has prediction_type {self.prediction_type!r}; expected one of "
                f"{', '.join(PREDICTION_TYPES)}: use another checkpoint of the Stable Diffusion family"
            )
        # Predictions of the clean sample are converted to noise in models/stable_diffusion.py.
        is_velocity = self.prediction_type == "v_prediction"
        self.parametrisation: Parametrisation = VelocityPrediction() if is_velocity else NoisePrediction()
        self._alpha_bars = [float(alpha_bar) for alpha_bar in scheduler.alphas_cumprod.double()]
        self.clean = _level(float(scheduler.final_alpha_cumprod), CLEAN_TIME)

    def training_batch(self, latents: Tensor, generator: torch.Generator) -> TrainingBatch:
        """Time steps evenly (Ho et al., NeurIPS 2020, algorithm 1), and noise, velocity or clean latents as targets."""
        _refuse_distilled(self.few_step)
        times = torch.randint(len(self._alpha_bars), (len(latents),), generator=generator)
        alpha_bars = torch.tensor(self._alpha_bars)[times].reshape(-1, 1, 1, 1)  # b 1 1 1
        signal, share = alpha_bars.sqrt().float(), (1 - alpha_bars).sqrt().float()
        noise = torch.randn(latents.shape, generator=generator)
        targets = {
            "epsilon": noise,
            "v_prediction": signal * noise - share * latents,
            "sample": latents,
        }
        return TrainingBatch(signal * latents + share * noise, times, targets[self.prediction_type])

    def level(self, timestep: int) -> Level:
        """The level at an integer time step of training."""
        return _level(self._alpha_bars[timestep], timestep)

    def steps(self, count: int, tokens: int | None = None) -> tuple[Step, ...]:
        """The steps of sampling, noisiest first; `tokens` has no effect.

        Raises:
            ConfigError: `count` is not between 1 and the number of training steps.
            ModelError: a noise-predicting network would be called at pure noise, where its prediction says nothing.
        """
        trained = len(self._alpha_bars)
        _check_count(count, trained)
        timesteps = self._timesteps(count)
        if timesteps[0] >= trained:  # the scheduler's offset leads beyond the last one
            raise ConfigError(f"steps is {count}, which exceeds the model's noise schedule by its offset; use one less")
        levels = [*map(self.level, timesteps), self.clean]
        if levels[0].signal == 0 and isinstance(self.parametrisation, NoisePrediction):
            raise ModelError(
                f"the model's scheduler ends in pure noise, where prediction_type {self.prediction_type!r} determines "
                "no image; expected v_prediction: use the scheduler configuration that the model was trained with"
            )
        return _pairs(levels)

    def _timesteps(self, count: int) -> list[int]:
        """The time steps of sampling, noisiest first; those of consistency models are among the ones it learnt."""
        renoises = self.few_step is not None and self.few_step.renoises
        scheduler: Any = (LCMScheduler if renoises else DDIMScheduler).from_config(self._config)
        if renoises:
            _check_count(count, scheduler.config.original_inference_steps)
        scheduler.set_timesteps(count)
        return [int(timestep) for timestep in scheduler.timesteps]


class SanaSchedule:
    """Levels of Sana: those that DPMSolverMultistepScheduler takes with `use_flow_sigmas`, and the times it tells.

    FlowMatchEulerDiscreteScheduler, which some checkpoints name, would shift them twice if left to itself, so that its
    last step did nothing.

    Args:
        config: the configuration of either scheduler.
        time_scale: factor between the scheduler's integer time and the network's.
    """

    parametrisation: Parametrisation = FlowPrediction()
    clean = Level(1.0, 0.0, CLEAN_TIME)
    few_step: FewStep | None = None
    edits_start_at = 1.0

    def __init__(self, config: Mapping[str, Any], time_scale: float = 1.0) -> None:
        self._trained: int = config.get("num_train_timesteps", 1000)
        self._shift: float = config.get("flow_shift", config.get("shift", 1.0))
        self._time_scale = time_scale

    def training_batch(self, latents: Tensor, generator: torch.Generator) -> TrainingBatch:
        """Levels whose logit is normal, shifted as in sampling (Esser et al., ICML 2024); the target is n − x₀."""
        return _flow_batch(latents, self._shift, self._trained * self._time_scale, generator)

    def steps(self, count: int, tokens: int | None = None) -> tuple[Step, ...]:
        """The steps of sampling, noisiest first: u evenly from 1 − 1/T to 0, shifted; `tokens` has no effect.

        Raises:
            ConfigError: `count` is not between 1 and the number of training steps.
        """
        _check_count(count, self._trained)
        signals = np.linspace(1, 1 / self._trained, count + 1)  # T training steps; the last, u = 0, is the clean level
        shares = [float(s) for s in _shifted(1.0 - signals, self._shift)[:0:-1]]
        return _pairs([*(Level(1 - s, s, int(s * self._trained) * self._time_scale) for s in shares), self.clean])


class SprintSchedule:
    """Levels of SANA-Sprint, a consistency model in the coordinates of a rectified flow.

    Its scheduler counts angles t, with latents cos t·x₀ + sin t·n (Lu & Song, ICLR 2025). Divided by cos t + sin t they
    are latents of a flow at s = sin t/(cos t + sin t), which the network takes, and is told as its time. Its jump to x̂₀
    is then x − s·p, as in any flow.

    Args:
        config: the configuration of diffusers' SCMScheduler.
    """

    parametrisation: Parametrisation = FlowPrediction()
    clean = Level(1.0, 0.0, CLEAN_TIME)
    few_step: FewStep | None = SPRINT
    edits_start_at = 1.0

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._trained: int = config.get("num_train_timesteps", 1000)

    def training_batch(self, latents: Tensor, generator: torch.Generator) -> TrainingBatch:
        """Nothing: it was distilled.

        Raises:
            ModelError: always.
        """
        raise _distilled()

    def steps(self, count: int, tokens: int | None = None) -> tuple[Step, ...]:
        """The steps of sampling, noisiest first: angles from 1.5708, evenly but for two steps; `tokens` has no effect.

        Raises:
            ConfigError: `count` is not between 1 and the number of training steps.
        """
        _check_count(count, self._trained)
        angles = (NOISIEST_ANGLE, MIDDLE_ANGLE) if count == 2 else np.linspace(NOISIEST_ANGLE, 0, count + 1)[:-1]
        shares = [math.sin(t) / (math.cos(t) + math.sin(t)) for t in angles]  # the first a little above 1
        return _pairs([*(Level(max(0.0, 1 - s), min(1.0, s), s) for s in shares), self.clean])


class FlowSchedule:
    """Levels of a rectified-flow model that samples with diffusers' FlowMatchEulerDiscreteScheduler, as FLUX.1 does.

    Edits do not start from pure noise, of which the first prediction depends on the prompt alone, but where Stable
    Diffusion's noisiest level is.

    Args:
        config: that scheduler's configuration: a static `shift`, or `use_dynamic_shifting` by the number of tokens
            (Esser et al., ICML 2024, section 5.3.2).
        few_step: how the model samples if it was distilled to few steps.
    """

    parametrisation: Parametrisation = FlowPrediction()
    clean = Level(1.0, 0.0, CLEAN_TIME)

    def __init__(self, config: Mapping[str, Any], few_step: FewStep | None = None) -> None:
        self._config = config
        self.few_step = few_step
        self.edits_start_at = NOISIEST_OF_STABLE_DIFFUSION if few_step is None else 1.0

    def training_batch(self, latents: Tensor, generator: torch.Generator) -> TrainingBatch:
        """Levels whose logit is normal, shifted as in sampling (Esser et al., ICML 2024); the target is n − x₀."""
        _refuse_distilled(self.few_step)
        tokens = latents.shape[-2] * latents.shape[-1] // TOKEN_AREA
        trained = self._config.get("num_train_timesteps", 1000)
        return _flow_batch(latents, self._shift(tokens, USUAL_STEPS), trained, generator)

    def steps(self, count: int, tokens: int | None = None) -> tuple[Step, ...]:
        """The steps of sampling, noisiest first: s from 1 to 1/count, shifted, then 0.

        Raises:
            ConfigError: `count` is below 1.
            ValueError: `tokens` is missing where the shift depends on it.
        """
        if count < 1:
            raise ConfigError(f"steps is {count}; expected 1 or more")
        shift = self._shift(tokens, count)
        shares = [float(s) for s in _shifted(np.linspace(1.0, 1 / count, count), shift)]
        trained = self._config.get("num_train_timesteps", 1000)
        return _pairs([*(Level(1 - s, s, s * trained) for s in shares), self.clean])

    def _shift(self, tokens: int | None, count: int) -> float:
        if not self._config.get("use_dynamic_shifting"):
            return self._config.get("shift", 1.0)
        if tokens is None:
            raise ValueError("expected the number of tokens, since this model's noise levels depend on it")
        return math.exp(self._log_shift(tokens, count))

    def _log_shift(self, tokens: int, count: int) -> float:
        """µ, linear in tokens, through (base_image_seq_len, base_shift) and (max_image_seq_len, max_shift)."""
        few, many = self._config.get("base_image_seq_len", 256), self._config.get("max_image_seq_len", 4096)
        low, high = self._config.get("base_shift", 0.5), self._config.get("max_shift", 1.15)
        return low + (high - low) * (tokens - few) / (many - few)


class Flux2Schedule(FlowSchedule):
    """Levels of FLUX.2, whose shift depends on the number of steps as well."""

    def _log_shift(self, tokens: int, count: int) -> float:
        """µ as its authors fitted it (`compute_empirical_mu` of diffusers' Flux2KleinPipeline)."""
        at_200_steps = 0.00016927 * tokens + 0.45666666
        if tokens > MAX_FITTED_TOKENS:
            return at_200_steps
        at_10_steps = 8.73809524e-05 * tokens + 1.89833333
        return at_200_steps + (at_200_steps - at_10_steps) / 190 * (count - 200)


def _flow_batch(latents: Tensor, shift: float, time_scale: float, generator: torch.Generator) -> TrainingBatch:
    shares = torch.sigmoid(torch.randn(len(latents), generator=generator))  # b
    shares = shift * shares / (1 + (shift - 1) * shares)
    noise = torch.randn(latents.shape, generator=generator)
    s = shares.reshape(-1, 1, 1, 1)
    return TrainingBatch((1 - s) * latents + s * noise, shares * time_scale, noise - latents)


def _refuse_distilled(few_step: FewStep | None) -> None:
    """Refuse to train a model of few steps.

    Raises:
        ModelError: it is one.
    """
    if few_step is not None:
        raise _distilled()


def _distilled() -> ModelError:
    return ModelError(
        "the model was distilled to few steps, and the loss it was trained with needs its teacher; train the LoRA on "
        "the model that it descends from"
    )


def _check_count(count: int, trained: int) -> None:
    """Check a number of steps.

    Raises:
        ConfigError: it is not between 1 and the number of training steps.
    """
    if not 1 <= count <= trained:
        raise ConfigError(f"steps is {count}; expected 1 to {trained}, the number of the model's training steps")


def _shifted(shares: np.ndarray, shift: float) -> np.ndarray:
    """Shares of noise s moved towards noise: shift·s/(1 + (shift − 1)·s) (Esser et al., ICML 2024, section 5.3.2)."""
    return shift * shares / (1 + (shift - 1) * shares)


def _level(alpha_bar: float, time: float) -> Level:
    return Level(alpha_bar**0.5, (1 - alpha_bar) ** 0.5, time)


def _pairs(levels: Sequence[Level]) -> tuple[Step, ...]:
    return tuple(Step(index, len(levels) - 1, at, to) for index, (at, to) in enumerate(pairwise(levels)))

"""A LoRA in training: steps by the loss that the model itself was trained with."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from PIL import Image
from torch import Tensor, nn

from tokenflow.config import LoRATraining
from tokenflow.diffusion.conditioning import Conditioning, stack
from tokenflow.events import Cancel, Listener, progress, raise_if_cancelled
from tokenflow.models.model import Model
from tokenflow.pipeline.generation import generate
from tokenflow.pipeline.lora.card import CARD, model_card
from tokenflow.pipeline.lora.examples import Example, draw
from tokenflow.pipeline.lora.state import State, read_state, write_state, write_tensors
from tokenflow.store.files import write_text

WEIGHTS = "pytorch_lora_weights.safetensors"
"""What diffusers calls a LoRA's file."""

SAMPLES = "samples"
ADAPTER = "trained"

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
CLIP_GRADIENT = 1.0

KEPT_EMPTY = 0.1
"""Share of the kept images that have an empty caption, which guidance moves away from and which should stay as well."""


class TrainingRun:
    """The weights of a LoRA and their optimiser, saved and restored together.

    Args:
        settings: of the training.
        model: gets the LoRA.
        inputs: everything that the LoRA after a number of steps depends on, by name.

    Attributes:
        done: steps taken.

    Raises:
        ConfigError: the folder of the result has a state that is damaged or of other inputs.
    """

    def __init__(self, settings: LoRATraining, model: Model, inputs: Mapping[str, Any]) -> None:
        self._settings, self._model, self._inputs = settings, model, inputs
        network = model.network
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)  # of the LoRA's first weights
            network.add_adapter(_lora_config(network, settings), ADAPTER)
        for parameter in self._parameters():
            parameter.data = parameter.data.float()
        if settings.gradient_checkpointing:
            network.enable_gradient_checkpointing()
        self._optimiser = torch.optim.AdamW(self._parameters(), settings.learning_rate)
        self.done = self._saved = 0
        self._is_whole = True  # False while some parameters have taken a step that others have not
        state = read_state(settings.output, inputs)
        if state is not None:
            self._restore(state)

    def train(
        self, examples: list[Example], kept: list[Example], on_event: Listener | None, cancel: Cancel | None
    ) -> list[float]:
        """Take the steps that are left, saving now and then and at the end, however it comes.

        Args:
            examples: what to learn.
            kept: what should stay as it is.
            on_event: called with the progress.
            cancel: asked before every step.

        Returns:
            The loss of each step.
        """
        settings, losses = self._settings, []
        with progress("train", settings.steps, on_event, initial=self.done) as advance:
            try:
                while self.done < settings.steps:
                    raise_if_cancelled(cancel)
                    losses.append(self._step(examples, kept))
                    advance(1)
                    if self.done % settings.sample_every == 0 or self.done == settings.steps:
                        self._save()
                        self._write_samples()
            except BaseException:  # Ctrl-C as well
                if self._is_whole and self.done > self._saved:
                    self._save()
                raise
        return losses

    def _step(self, examples: list[Example], kept: list[Example]) -> float:
        """One step of the optimiser, which depends on the seed and the number of the step alone."""
        settings = self._settings
        generator = torch.Generator().manual_seed(settings.seed + 1 + self.done)
        drawn = [
            *draw(examples, settings.batch_size, settings.empty_captions, generator),
            *draw(kept, settings.batch_size, KEPT_EMPTY, generator),
        ]
        latents = torch.cat([each for each, _ in drawn])
        batch = self._model.schedule.training_batch(latents, generator)
        conditioning = stack([each for _, each in drawn])
        prediction = self._model.training_prediction(batch.noisy, batch.times, conditioning)
        target = batch.target.to(prediction)
        if kept:  # what the model without the LoRA says of these, in place of what is there
            first = settings.batch_size
            target[first:] = self._unchanged_prediction(
                batch.noisy[first:], batch.times[first:], conditioning.from_branch(first)
            )
        loss = F.mse_loss(prediction, target)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._parameters(), CLIP_GRADIENT)
        self._is_whole = False
        self._optimiser.step()
        self.done += 1
        self._is_whole = True
        return float(loss.detach())

    def _unchanged_prediction(self, noisy: Tensor, times: Tensor, conditioning: Conditioning) -> Tensor:
        """What the model without the LoRA predicts: b c h w."""
        network = self._model.network
        network.disable_adapters()
        try:
            with torch.no_grad():
                return self._model.training_prediction(noisy, times, conditioning)
        finally:
            network.enable_adapters()

    def _restore(self, state: State) -> None:
        self.done = self._saved = state.done
        set_peft_model_state_dict(self._model.network, state.lora, ADAPTER)
        groups = self._optimiser.state_dict()["param_groups"]
        self._optimiser.load_state_dict({"state": state.optimiser, "param_groups": groups})

    def _save(self) -> None:
        """The LoRA for use, its card, and the state to go on from."""
        settings = self._settings
        lora = dict(get_peft_model_state_dict(self._model.network, adapter_name=ADAPTER))
        optimiser = self._optimiser.state_dict()["state"]
        write_state(settings.output, self._inputs, State(self.done, lora, optimiser))
        part = _part(self._model.network)
        named = {f"{part}.{name}": value for name, value in lora.items()}
        write_tensors(named, settings.output / WEIGHTS, {"format": "pt"})
        write_text(settings.output / CARD, model_card(settings, self.done))
        self._saved = self.done

    def _write_samples(self) -> None:
        """One row of images of the sample prompts."""
        prompts = self._settings.samples
        if not prompts:
            return
        images = [generate(self._model, prompt, seed=self._settings.seed)[0] for prompt in prompts]
        folder = self._settings.output / SAMPLES
        folder.mkdir(exist_ok=True)
        Image.fromarray(np.hstack(images)).save(folder / f"{self.done:06d}.png")

    def _parameters(self) -> list[nn.Parameter]:
        return [each for each in self._model.network.parameters() if each.requires_grad]


def _lora_config(network: Any, settings: LoRATraining) -> LoraConfig:
    every = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)
    ]
    targets = every if settings.layers == "all" else list(ATTENTION)
    return LoraConfig(r=settings.rank, lora_alpha=settings.rank, target_modules=targets, init_lora_weights="gaussian")


def _part(network: Any) -> str:
    """What diffusers calls the network among a pipeline's parts."""
    return "unet" if type(network).__name__.startswith("UNet") else "transformer"

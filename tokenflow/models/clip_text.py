"""CLIP text encoders as Stable Diffusion takes them: weighted words, and prompts of any length.

A prompt without weights that fits is encoded as diffusers does it. All others go through compel, whose weights mean:
above 1, a token's state is moved away from that of the empty prompt, e + w·(z − e); below 1, the prompt is blended with
the one in which these words are masked. A longer prompt is cut into chunks at its last comma, full stop, colon or
semicolon that fits, which are encoded one by one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tokenflow.models.checkpoints.quiet import quiet
from tokenflow.models.prompt_weights import Section, parse_prompt


@dataclass(frozen=True)
class ClipText:
    """What the text encoders make of a prompt.

    Attributes:
        states: 1 n c, of all encoders side by side.
        pooled: 1 d, the last encoder's; None where it has no projection.
        padding: 1 n' c, states of an empty prompt that fill up a shorter one beside this; None for one chunk.
    """

    states: Tensor
    pooled: Tensor | None
    padding: Tensor | None = None


class ClipTextEncoders:
    """The text encoders of a Stable Diffusion pipeline: one, or the two of SDXL.

    Args:
        encoders: pairs of tokenizer and text encoder.
        penultimate: whether the last but one state is taken, unnormalised, as in SDXL.
        ready: brings an encoder to the device.
        device: where tokens go.
        convert: (text, tokenizer) -> the text with the tokens of textual inversions.
    """

    def __init__(
        self,
        encoders: Sequence[tuple[Any, Any]],
        penultimate: bool,
        ready: Callable[[Any], Any],
        device: torch.device,
        convert: Callable[[str, Any], str],
    ) -> None:
        for tokenizer, encoder in encoders:  # where tokenizer_config.json is missing, it has no bound of its own
            tokenizer.model_max_length = min(tokenizer.model_max_length, encoder.config.max_position_embeddings)
        self._encoders = encoders
        self._penultimate = penultimate
        self._ready = ready
        self._device = device
        self._convert = convert

    def __call__(self, prompt: str) -> ClipText:
        """The states of a prompt.

        Raises:
            ConfigError: a weight is negative.
        """
        sections = parse_prompt(prompt)
        with torch.no_grad(), quiet():
            if self._is_plain(sections):
                return self._encode_plain(_text(sections[0]))
            states = torch.cat([self._weighted(section) for section in sections], dim=1)
            first = self._encode_plain(_text(sections[0]))
            padding = self._encode_plain("").states if states.shape[1] > first.states.shape[1] else None
            return ClipText(states, first.pooled, padding)

    def _is_plain(self, sections: Sequence[Section]) -> bool:
        """Whether diffusers would encode it just so."""
        if len(sections) > 1 or any(fragment.weight != 1 for fragment in sections[0]):
            return False
        text = _text(sections[0])
        return all(
            len(tokenizer(self._convert(text, tokenizer), truncation=False, verbose=False).input_ids)
            <= tokenizer.model_max_length
            for tokenizer, _ in self._encoders
        )

    def _encode_plain(self, text: str) -> ClipText:
        """One chunk, cut off where it is full."""
        outputs = [
            self._ready(encoder)(self._tokenize(tokenizer, text), output_hidden_states=True)
            for tokenizer, encoder in self._encoders
        ]
        if not self._penultimate:
            return ClipText(outputs[0].last_hidden_state, None)
        return ClipText(torch.cat([output.hidden_states[-2] for output in outputs], dim=-1), outputs[-1].text_embeds)

    def _tokenize(self, tokenizer: Any, text: str) -> Tensor:
        length = tokenizer.model_max_length
        padded = tokenizer(
            self._convert(text, tokenizer),
            padding="max_length",
            max_length=length,
            truncation=True,
            return_tensors="pt",
        )
        return padded.input_ids.to(self._device)

    def _weighted(self, section: Section) -> Tensor:
        """The states of a section, 1 n c, in as many chunks as it needs; encoders beside each other are cut alike."""
        from compel.embeddings_provider import EmbeddingsProvider, ReturnedEmbeddingsType, SplitLongTextMode

        kind = (
            ReturnedEmbeddingsType.PENULTIMATE_HIDDEN_STATES_NON_NORMALIZED
            if self._penultimate
            else ReturnedEmbeddingsType.LAST_HIDDEN_STATES_NORMALIZED
        )
        weights = [fragment.weight for fragment in section]
        states = []
        for tokenizer, encoder in self._encoders:
            provider = EmbeddingsProvider(
                tokenizer,
                self._ready(encoder),
                truncate=False,
                returned_embeddings_type=kind,
                device=str(self._device),
                split_long_text_mode=SplitLongTextMode.PHRASES,
            )
            texts = [self._convert(fragment.text, tokenizer) for fragment in section]
            states.append(
                provider.get_embeddings_for_weighted_prompt_fragments([texts], [weights], device=str(self._device))
            )
        return torch.cat(states, dim=-1)


def _text(section: Section) -> str:
    return "".join(fragment.text for fragment in section)

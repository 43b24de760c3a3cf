"""Opens what an edit is measured with: its source's reconstruction, the mask, and what judges whether it follows its
prompt: CLIP where one is named, and a classifier where there is one for the model's words."""

from pathlib import Path

import torch

from tokenflow.config import Config
from tokenflow.metrics import ClipScore, EditMetrics, WordsSeen, find_classifier
from tokenflow.models.prompt_weights import plain_text
from tokenflow.models.vocabulary import read_vocabulary
from tokenflow.modes.source import InvertedClip
from tokenflow.pipeline.masks import read_masks
from tokenflow.video import read_frames


def open_score(config: Config, device: torch.device) -> ClipScore | None:
    """CLIP, where the configuration names one; and a look at the mask, before the inversion, which takes long.

    Raises:
        ClipError, ClipNotFoundError: the mask cannot be read.
        ModelError, ModelNotFoundError: the CLIP model cannot be used.
    """
    if not config.metrics.enabled:
        return None
    if config.metrics.mask is not None:
        next(read_frames(config.metrics.mask, background="black"))
    return (
        None if config.metrics.clip is None else ClipScore(config.metrics.clip, plain_text(config.edit.prompt), device)
    )


def classifier_of(config: Config) -> str | None:
    """The folder of the classifier that looks for the prompt's words; None if there is none, or metrics are off.

    Raises:
        ModelError: the vocabulary of the model cannot be read.
    """
    named = config.metrics.classifier
    if not config.metrics.enabled or named != "auto":
        return named if config.metrics.enabled else None
    vocabulary = read_vocabulary(Path(config.model.path))
    return None if vocabulary is None else find_classifier(config.model.path, vocabulary.kinds)


def open_words_seen(config: Config) -> WordsSeen | None:
    """The classifier with the words of the prompts; None if there is none.

    Raises:
        ModelError, ModelNotFoundError: the classifier cannot be used.
    """
    folder = classifier_of(config)
    return None if folder is None else WordsSeen(folder, plain_text(config.clip.prompt), plain_text(config.edit.prompt))


def open_metrics(
    config: Config,
    source: InvertedClip,
    reconstruction: Path | None,
    score: ClipScore | None,
    words: WordsSeen | None,
) -> EditMetrics | None:
    """The metrics that the configuration asks for; None if they are off.

    Args:
        config: of the edit.
        source: the clip.
        reconstruction: the lossless video of the inversion sampled back; None if it was not made.
        score: what `open_score` returned.
        words: what `open_words_seen` returned.

    Raises:
        ClipError, ClipNotFoundError: the mask cannot be read.
    """
    if not config.metrics.enabled:
        return None
    images = None if reconstruction is None else (frame.image for frame in read_frames(reconstruction))
    mask = config.metrics.mask
    masks = None if mask is None else read_masks(mask, config.clip, *source.size)
    return EditMetrics(images, masks, score, words, source.cuts)

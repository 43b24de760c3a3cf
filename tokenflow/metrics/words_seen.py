"""Whether a classifier sees what the prompt says, for models of a closed vocabulary."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from tokenflow.errors import ModelError, ModelNotFoundError
from tokenflow.metrics.scene_classifier import SceneClassifier, load_scene_classifier

Kinds = Mapping[str, Sequence[str]]
"""Words by what they name: `{"object": ("cat", "dog"), …}`."""


class WordsSeen:
    """Whether the classifier sees the words of the edit's prompt, fed frame by frame.

    Words are those that both the prompt and the classifier know, at most one of each kind. A word that the source's
    prompt has, too, counts only in frames whose source shows it to the classifier: what it does not see there it cannot
    miss in the edit.

    Args:
        folder: the classifier.
        source_prompt: what the source shows.
        prompt: what the edit shows.

    Raises:
        ModelNotFoundError: the folder is missing.
        ModelError: it holds no classifier.
    """

    def __init__(self, folder: str, source_prompt: str, prompt: str) -> None:
        self._network = _load(folder)
        self._wanted = words_in(prompt, self._network.kinds)
        before = words_in(source_prompt, self._network.kinds)
        self._kept = {kind for kind, word in self._wanted.items() if before.get(kind) == word}
        self.keeps_object = "object" in self._kept
        """Whether the edit is meant to leave the object what it is."""
        self.over_time: dict[str, dict[str, list[float]]] = {}
        """`words`, of `source` and `edit`: per frame 1.0 if the classifier sees all words there, else 0.0. Empty if the
        prompt changes no word that the classifier knows."""

    def add(self, source: np.ndarray, edit: np.ndarray) -> None:
        """Measure the next frame of both, H W 3 uint8."""
        if self._kept == set(self._wanted):
            return
        seen = self._seen([source, edit])
        for place, name in enumerate(("source", "edit")):
            counted = [kind for kind in self._wanted if kind not in self._kept or self._right(seen, kind, 0)]
            value = float(all(self._right(seen, kind, place) for kind in counted))
            self.over_time.setdefault("words", {}).setdefault(name, []).append(value)

    def _right(self, seen: Mapping[str, list[str]], kind: str, place: int) -> bool:
        return seen[kind][place] == self._wanted[kind]

    def _seen(self, images: Sequence[np.ndarray]) -> dict[str, list[str]]:
        """The most likely word of each kind in each image."""
        batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
        with torch.no_grad():
            logits = self._network(batch)
        return {kind: [self._network.kinds[kind][index] for index in each.argmax(1)] for kind, each in logits.items()}


def words_in(prompt: str, kinds: Kinds) -> dict[str, str]:
    """The longest word of each kind that a prompt says, articles left out: a police car is not a car as well."""
    found = {}
    for kind, words in kinds.items():
        for word in sorted(words, key=len, reverse=True):
            if re.search(rf"\b{re.escape(re.sub(r'^(an?|the) ', '', word))}\b", prompt.lower()):
                found[kind] = word
                break
    return found


def find_classifier(model: str, kinds: Kinds) -> str | None:
    """The folder of the classifier that lies beside a model's folder and knows every word of the model; or None.

    Args:
        model: the model's folder.
        kinds: the words of its vocabulary.
    """
    for file in sorted(Path(model).absolute().parent.glob("*/config.json")):
        known = _kinds(file)
        if known and all(set(words) <= set(known.get(kind, ())) for kind, words in kinds.items()):
            return str(file.parent)
    return None


def _kinds(file: Path) -> Kinds:
    """The words of a classifier's config.json; none if the file is something else's."""
    try:
        kinds = json.loads(file.read_text(encoding="utf-8"))["kinds"]
    except (OSError, ValueError, LookupError, TypeError):
        return {}
    return kinds if isinstance(kinds, dict) else {}


def _load(folder: str) -> SceneClassifier:
    if not Path(folder).is_dir():
        raise ModelNotFoundError(
            f"no classifier at {folder!r}; expected a folder with config.json and model.safetensors: set "
            "metrics.classifier, or auto or null"
        )
    try:
        return load_scene_classifier(folder)
    except (OSError, ValueError, LookupError, RuntimeError, TypeError) as error:
        raise ModelError(f"cannot read {folder!r} as a classifier ({error}); set metrics.classifier") from error

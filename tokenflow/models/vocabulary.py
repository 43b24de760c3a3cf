"""The closed vocabulary of a model that was trained on few words, read from the `vocabulary.json` in its folder."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from tokenflow.errors import ModelError
from tokenflow.events import notice

FILE = "vocabulary.json"


@dataclass(frozen=True)
class Vocabulary:
    """The words of a model.

    Attributes:
        words: every word of its captions, lower case.
        kinds: words by what they name: `{"object": ("cat", "dog"), …}`.
    """

    words: frozenset[str]
    kinds: dict[str, tuple[str, ...]]

    def unknown(self, prompt: str) -> list[str]:
        """The words of a prompt that the model has never seen, in order, each once."""
        words = re.findall(r"\w+", prompt.lower())
        return [word for word in dict.fromkeys(words) if word not in self.words]

    def with_words(self, words: Iterable[str]) -> "Vocabulary":
        """The same with words that an adapter adds."""
        return replace(self, words=self.words | {each for word in words for each in re.findall(r"\w+", word.lower())})

    def __str__(self) -> str:
        return "; ".join(f"{kind}: {', '.join(known)}" for kind, known in self.kinds.items())


def read_vocabulary(folder: Path) -> Vocabulary | None:
    """The vocabulary of the model in a folder, if it brings one: its kinds, and under `words` every word.

    A file of that name in another form belongs to something else and is ignored.

    Raises:
        ModelError: the file is there and cannot be read.
    """
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} is damaged ({error}); download the model again, or remove that file") from error
    if not isinstance(content, dict) or not all(isinstance(each, list) for each in content.values()):
        return None
    kinds = {kind: tuple(known) for kind, known in content.items() if kind != "words"}
    return Vocabulary(frozenset(content["words"]), kinds) if "words" in content else None


def notice_unknown_words(prompt: str, vocabulary: Vocabulary | None) -> None:
    """A notice that names the words of a prompt that the model has never seen, where its words are a closed set."""
    unknown = vocabulary.unknown(prompt) if vocabulary else []
    if unknown:
        notice(
            f"this model has never seen {', '.join(map(repr, unknown))} of the prompt {prompt!r}; it knows {vocabulary}"
        )

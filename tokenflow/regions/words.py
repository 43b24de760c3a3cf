"""A prompt without some of its words."""

import re
from collections.abc import Sequence

from tokenflow.errors import ConfigError

ARTICLES = ("a", "an", "the")


def split_words(words: str) -> list[str]:
    """The words or phrases of a list with commas."""
    return [phrase for phrase in (each.strip() for each in words.split(",")) if phrase]


def without_words(prompt: str, phrases: Sequence[str]) -> str:
    """The prompt without every occurrence of some words or phrases, nor the articles before them.

    Raises:
        ConfigError: one of them is not in the prompt.
    """
    for phrase in phrases:
        article = rf"(?:\b(?:{'|'.join(ARTICLES)})\s+)?"
        shorter = re.sub(rf"{article}\b{re.escape(phrase)}\b", "", prompt, flags=re.IGNORECASE)
        if shorter == prompt:
            raise ConfigError(
                f"the region's words {phrase!r} are not in the source prompt {prompt!r}; take words that stand there"
            )
        prompt = shorter
    return re.sub(r"\s+", " ", prompt).strip(" ,")

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
    prompt = " ".join(prompt.split())
    for phrase in phrases:
        shorter = re.sub(_pattern(" ".join(phrase.split())), "", prompt, flags=re.IGNORECASE)
        if shorter == prompt:
            raise ConfigError(
                f"the region's words {phrase!r} are not in the source prompt {prompt!r}; take words that stand there"
            )
        prompt = shorter
    return " ".join(prompt.split()).strip(" ,")


def _pattern(phrase: str) -> str:
    """A phrase with the article before it, not as a part of a longer word such as `dog-like`."""
    begin = r"(?<![\w'-])" if phrase[0].isascii() and phrase[0].isalnum() else ""
    end = r"(?![\w'-])" if phrase[-1].isascii() and phrase[-1].isalnum() else ""
    return rf"(?:\b(?:{'|'.join(ARTICLES)}) )?{begin}{re.escape(phrase)}{end}"

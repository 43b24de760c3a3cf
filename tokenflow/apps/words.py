"""Words of a command line that are neither settings nor files: most often a prompt without its quotes."""

from collections.abc import Sequence
from pathlib import Path

from tokenflow.errors import ConfigError


def refuse_stray_words(words: Sequence[str]) -> None:
    """Check that every word is a setting.

    Args:
        words: those after the configuration or clip.

    Raises:
        ConfigError: one has no `=`; it probably belongs to the setting before it.
    """
    for place, word in enumerate(words):
        if "=" not in word:
            raise ConfigError(_unquoted(words[:place], _until_setting(words[place:])))


def refuse_stray_sources(words: Sequence[str], is_setting: Sequence[bool]) -> None:
    """Check that every word after the first setting is a setting or a file that exists.

    Raises:
        ConfigError: one is neither; it probably belongs to the setting before it.
    """
    first = is_setting.index(True) if True in is_setting else len(words)
    for place in range(first, len(words)):
        word = words[place]
        if not is_setting[place] and not any(mark in word for mark in "*?[") and not Path(word).exists():
            raise ConfigError(_unquoted(words[:place], _until_setting(words[place:])))


def _until_setting(words: Sequence[str]) -> str:
    """The words before the next setting, as they were typed."""
    end = next((place for place, word in enumerate(words) if "=" in word), len(words))
    return " ".join(words[:end])


def _unquoted(before: Sequence[str], stray: str) -> str:
    if not before:
        return f'expected settings of the form key=value, got {stray!r}; for a prompt, write "edit.prompt={stray}"'
    return f'expected key=value, got {stray!r}; quote a value that has spaces: "{before[-1]} {stray}"'

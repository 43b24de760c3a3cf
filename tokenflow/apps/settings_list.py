"""What `tokenflow settings` prints: every setting with its values, default and description."""

from collections.abc import Iterator
from textwrap import wrap

from tokenflow.config import Config
from tokenflow.config.reference import SettingReference, all_settings
from tokenflow.errors import ConfigError

WIDTH = 100
"""Characters per line."""

INDENT = " " * 4


def settings_lines(word: str | None) -> list[str]:
    """The settings whose key, values or description contain a word, in any case; all without one.

    Raises:
        ConfigError: no setting does.
    """
    found = [setting for setting in all_settings(Config) if word is None or _contains(setting, word.lower())]
    if not found:
        raise ConfigError(f"no setting has {word!r} in its name or description; `tokenflow settings` lists all")
    return "\n\n".join("\n".join(_lines(setting)) for setting in found).splitlines()


def _contains(setting: SettingReference, word: str) -> bool:
    return any(word in text.lower() for text in (setting.key, setting.values, setting.description))


def _lines(setting: SettingReference) -> Iterator[str]:
    default = "required" if setting.default is None else f"default {setting.default}"
    yield f"{setting.key}: {_plain(setting.values)}; {default}"
    yield from wrap(setting.description, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT, break_on_hyphens=False)


def _plain(markdown: str) -> str:
    return markdown.replace("`", "")

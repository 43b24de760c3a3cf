"""Former names of settings and values: accepted in files, in the environment and on the command line."""

from collections.abc import Mapping
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf

from tokenflow.errors import ConfigError

Value = TypeVar("Value")

RENAMED_KEYS = {"edit.carried_until": "edit.propagate_edit_until"}
"""Former key -> key, in the same section."""

RENAMED_VALUES = {"edit.guidance": {"carried": "propagated"}}
"""Key -> former value -> value."""


def rename_layer(settings: DictConfig, where: str) -> DictConfig:
    """A layer of settings under their present names, references unresolved; see `rename_nested`."""
    return OmegaConf.create(rename_nested(OmegaConf.to_container(settings), where))


def rename_nested(settings: Any, where: str) -> Any:
    """Nested settings under their present names, in place.

    Args:
        settings: sections of settings, or anything else, which is returned as it is.
        where: the file they come from, named in errors.

    Raises:
        ConfigError: a setting is given under both its names.
    """
    for former, key in RENAMED_KEYS.items():
        section, name = _find(settings, former)
        if name in section:
            present = key.rpartition(".")[2]
            if present in section:
                raise _given_twice(former, key, where)
            section[present] = section.pop(name)
    for key, values in RENAMED_VALUES.items():
        section, name = _find(settings, key)
        value = section.get(name)
        if isinstance(value, str):
            section[name] = values.get(value, value)
    return settings


def rename_dotted(given: Mapping[str, Value], where: str) -> dict[str, Value]:
    """Values by dotted key, under their present names; see `rename_nested`."""
    for former, key in RENAMED_KEYS.items():
        if former in given and key in given:
            raise _given_twice(former, key, where)
    return {RENAMED_KEYS.get(key, key): value for key, value in given.items()}


def former_name(key: str) -> str | None:
    """The former name of a dotted key, if it had another."""
    return next((former for former, present in RENAMED_KEYS.items() if present == key), None)


def _find(settings: Any, key: str) -> tuple[dict[Any, Any], str]:
    """The section that holds a setting, empty if there is none, and the setting's name in it."""
    *sections, name = key.split(".")
    for section in sections:
        settings = settings.get(section) if isinstance(settings, dict) else None
    return (settings if isinstance(settings, dict) else {}), name


def _given_twice(former: str, key: str, where: str) -> ConfigError:
    return ConfigError(f"{where}: {former} is the former name of {key}, and both are given; keep {key}")

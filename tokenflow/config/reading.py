"""Reading a `Config` from YAML files, the environment and the command line, with all mistakes in one error.

Order of precedence, weakest first: the files named by `extends:`, the file itself, the environment
(`TOKENFLOW_EDIT__STEPS=30`), the command line (`edit.steps=30`). Paths are relative to the working directory, those
of `extends:` to the file that names them; `~` is the home directory.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ValidationError
from yaml import MarkedYAMLError, YAMLError

from tokenflow.config.renamed import RENAMED_KEYS, rename_dotted, rename_layer, rename_nested
from tokenflow.config.sections.training import LoRATraining
from tokenflow.config.settings import PRESETS, Config
from tokenflow.config.suggestions import all_keys, annotation, explain, is_section, key_of, one_line, origin
from tokenflow.config.yaml_errors import explain_yaml
from tokenflow.errors import ConfigError, looked_in

ENVIRONMENT_PREFIX = "TOKENFLOW_"
WORDS = "words"
"""A section of free content that settings refer to as `${words.…}`. It is dropped once references are resolved."""


def load_config(
    path: str | Path, overrides: Iterable[str] = (), environment: Mapping[str, str] | None = None
) -> Config:
    """Read a YAML file into a `Config`.

    Args:
        path: the file.
        overrides: `key=value` strings with dotted keys, such as `edit.steps=30`.
        environment: where `TOKENFLOW_…` variables are looked up; by default the process's own.

    Raises:
        ConfigError: listing every mistake, each with its key and what to write instead.
    """
    settings = read_settings(path)
    if "clips" in settings or "edits" in settings:
        raise ConfigError(
            f"{path} is a matrix of clips and edits; expected the configuration of one edit: run `tokenflow batch "
            f"{path}`, or read it with read_configs"
        )
    return resolve(settings, overrides, environment, name=str(path))


def read_settings(path: str | Path) -> DictConfig:
    """A YAML file merged over those it extends, not validated yet: the input of `resolve`.

    Raises:
        ConfigError: the file does not exist or cannot be read.
    """
    with _as_config_errors(str(path)):
        return _read(Path(path), ())


def resolve(
    settings: DictConfig, overrides: Iterable[str] = (), environment: Mapping[str, str] | None = None, *, name: str
) -> Config:
    """Settings as a validated `Config`; arguments and errors as `load_config`.

    Args:
        settings: from `read_settings`, or merged from several of them.
        name: what to call them in errors.
    """
    given = {key: (value, None) for key, value in rename_dotted(dict(map(_split_override, overrides)), name).items()}
    environment = os.environ if environment is None else environment
    variables = rename_dotted(_from_environment(environment), name)
    origins = {key: variable for key, (_, variable) in variables.items() if key not in given}
    mistakes: dict[str, str] = {}
    with _as_config_errors(name):
        texts = {key: value for key, (value, _) in (variables | given).items()}
        layers = [rename_layer(layer, name) for layer in _layers(texts, origins, mistakes)]
        merged = OmegaConf.merge(_defaults(Config), settings, _with_preset(OmegaConf.merge({}, *layers), name))
        values = rename_nested(_resolved(merged, origins, mistakes), name)
    if isinstance(values, dict):
        values.pop(WORDS, None)
    errors = [*_misspelt_variables(environment), *mistakes.values()]
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        errors += [explain(each, Config, origins) for each in error.errors() if key_of(each) not in mistakes]
    if errors:
        raise ConfigError(f"{name}: {'; '.join(errors)}", errors)
    return config


def load_training(settings: Mapping[str, Any] | DictConfig, overrides: Iterable[str], *, name: str) -> LoRATraining:
    """Settings of a training as a validated `LoRATraining`.

    Args:
        settings: from `read_settings`, or given in Python.
        overrides: `key=value` strings with dotted keys, such as `model.path=…`.
        name: what to call them in errors.

    Raises:
        ConfigError: listing every mistake, each with its key and what to write instead.
    """
    mistakes: dict[str, str] = {}
    with _as_config_errors(name):
        layers = _layers(dict(map(_split_override, overrides)), {}, mistakes)
        values = _resolved(OmegaConf.merge(settings, *layers), {}, mistakes)
    errors = [*mistakes.values()]
    try:
        training = LoRATraining.model_validate(values)
    except ValidationError as error:
        errors += [explain(each, LoRATraining, {}) for each in error.errors() if key_of(each) not in mistakes]
    if errors:
        raise ConfigError(f"{name}: {'; '.join(errors)}", errors)
    return training


def _layers(texts: Mapping[str, str], origins: Mapping[str, str], mistakes: dict[str, str]) -> list[DictConfig]:
    """A layer for each key and its text; texts that cannot be parsed go to `mistakes`."""
    layers = []
    for key, text in texts.items():
        try:
            layers.append(_layer(key, text))
        except (OmegaConfBaseException, YAMLError, ValueError) as error:
            shown = repr(key)[1:-1]  # escapes line breaks
            mistakes[key] = f"{shown}: cannot parse {text!r} ({one_line(error)}){origin(key, origins)}"
    return layers


def _resolved(settings: Any, origins: Mapping[str, str], mistakes: dict[str, str]) -> Any:
    """Settings with their references resolved; a wrong reference goes to `mistakes`, and its value is left empty."""
    while True:
        try:
            return OmegaConf.to_container(settings, resolve=True)
        except OmegaConfBaseException as error:
            key = error.full_key
            if not key or key in mistakes:
                raise
            mistakes[key] = one_line(error) + origin(key, origins)
            try:
                OmegaConf.update(settings, key, "")
            except IndexError:  # OmegaConf cannot address keys such as "." and "[x"
                raise error from None


@contextmanager
def _as_config_errors(name: str) -> Iterator[None]:
    """Turn the errors of OmegaConf, YAML and the file system into a `ConfigError`."""
    try:
        yield
    except ConfigError:
        raise
    except RecursionError as error:
        raise ConfigError(f"{name}: nested too deeply; expected sections such as clip, model and edit") from error
    except TypeError as error:
        raise ConfigError(
            f"{name}: a list was given where a section was expected, or a section in place of a list; write lists "
            "whole, such as edit.regions=[{words: dog}]"
        ) from error
    except OSError as error:
        raise ConfigError(f"cannot access {name} ({error.strerror}); check the path and its permissions") from error
    except (OmegaConfBaseException, YAMLError, ValueError) as error:
        raise ConfigError(f"{name}: {one_line(error)}") from error


def _read(path: Path, seen: tuple[Path, ...]) -> DictConfig:
    """A file merged over those it extends."""
    if path.resolve() in seen:
        chain = " → ".join(str(each) for each in [*seen, path.resolve()])
        raise ConfigError(f"configuration files extend each other in a circle: {chain}; remove one `extends:`")
    if not path.is_file():
        by = f" (named by `extends:` in {seen[-1]})" if seen else ""
        remedy = f"did you mean {twin}?" if (twin := _twin(path)).is_file() else "see configs/ for examples"
        raise ConfigError(f"configuration file {str(path)!r} not found{looked_in(path)}{by}; {remedy}")
    try:
        own = OmegaConf.load(path)
    except MarkedYAMLError as error:
        raise ConfigError(f"{path}, {explain_yaml(error, path.read_text(encoding='utf-8'))}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path} as YAML ({one_line(error)})") from error
    if not isinstance(own, DictConfig):
        raise ConfigError(f"{path}: expected YAML with sections such as clip, model and edit, got a list")
    bases = own.pop("extends", None)
    names = [] if bases is None else list(bases) if isinstance(bases, ListConfig) else [bases]
    if not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{path}: extends: expected the name of a YAML file, or a list of names, got {bases!r}")
    parents = [_read(path.parent / os.path.expanduser(name), (*seen, path.resolve())) for name in names]
    merged = OmegaConf.merge(*parents, _with_preset(rename_layer(own, str(path)), str(path)))
    if not isinstance(merged, DictConfig):
        raise ConfigError(f"{path}: expected YAML with sections such as clip, model and edit")
    return merged


def _twin(path: Path) -> Path:
    """The same name with the other of YAML's two extensions."""
    return path.with_suffix(".yml" if path.suffix == ".yaml" else ".yaml")


def _with_preset(settings: Any, name: str) -> Any:
    """Settings merged over those of the preset that they name, if any."""
    if OmegaConf.is_interpolation(settings, "preset"):
        raise ConfigError(f"{name}: preset: expected one of {', '.join(PRESETS)}, got a reference; write it out")
    preset = settings.get("preset")
    return OmegaConf.merge(PRESETS[preset], settings) if preset in PRESETS else settings


def _defaults(section: type[BaseModel]) -> dict[str, Any]:
    """All defaults, as the weakest layer, so that references find them too."""
    defaults: dict[str, Any] = {}
    for name, setting in section.model_fields.items():
        if isinstance(setting.annotation, type) and issubclass(setting.annotation, BaseModel):
            defaults[name] = _defaults(setting.annotation)
        elif not setting.is_required():
            # OmegaConf merges no text over a tuple.
            defaults[name] = list(setting.default) if isinstance(setting.default, tuple) else setting.default
    return defaults


def _split_override(override: str) -> tuple[str, str]:
    """Key and value of `key=value`."""
    key, equals, value = override.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError(f"expected an override of the form key=value, such as edit.steps=30, got {override!r}")
    return key, value


def _from_environment(environment: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Key -> value and variable: `TOKENFLOW_EDIT__STEPS=30` gives `edit.steps` and `30`. Ignores other variables."""
    found = {}
    for name, value in environment.items():
        if re.fullmatch(rf"{ENVIRONMENT_PREFIX}([^_].*__.*[^_]|PRESET)", name):
            found[name.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", ".")] = value, name
    return found


def _misspelt_variables(environment: Mapping[str, str]) -> list[str]:
    """An error for each variable that is named as a setting is, but for a doubled underscore."""
    keys = [*all_keys(Config), *RENAMED_KEYS]
    names = [ENVIRONMENT_PREFIX + key.upper().replace(".", "__") for key in keys if "." in key]
    correct = {name.replace("__", "_"): name for name in names}
    return [f"{name}: has no effect; write {correct[name]}" for name in environment if name in correct]


def _layer(key: str, text: str) -> DictConfig:
    """One setting as a layer. Text for strings and paths is taken literally; anything else is parsed as YAML."""
    kind = annotation(Config, key)
    value: Any = text if kind in (str, Path) else _parsed(text)
    if isinstance(value, list) and is_section(kind):
        value = text  # a list could not be merged with a section; as a string it is refused by validation
    for part in reversed(key.split(".")):
        value = {part: value}
    return OmegaConf.create(value)


def _parsed(text: str) -> Any:
    parsed: Any = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]))
    return parsed["value"]

"""Settings from YAML files, the environment and the command line, as a `Config`, with all mistakes said at once.

Order of precedence, weakest first: the files named by `extends:`, the file itself, the environment
(`TOKENFLOW_EDIT__STEPS=30`), the command line (`edit.steps=30`). Paths are relative to the working directory, those
of `extends:` to the file that names them; `~` is the home directory. Knows no setting but `preset` and `words`.
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
from yaml import YAMLError

from tokenflow.config.settings import PRESETS, Config
from tokenflow.config.suggestions import all_keys, annotation, explain, is_section, key_of, one_line, origin
from tokenflow.errors import ConfigError

ENVIRONMENT_PREFIX = "TOKENFLOW_"
WORDS = "words"
"""A section of any shape, for `${words.…}` to refer to; not a setting itself."""


def load_config(
    path: str | Path, overrides: Iterable[str] = (), environment: Mapping[str, str] | None = None
) -> Config:
    """Read a YAML file into a `Config`.

    Args:
        path: the file.
        overrides: `key=value` strings with dotted keys, such as `edit.steps=30`.
        environment: where `TOKENFLOW_…` variables are looked up; by default the process's own.

    Raises:
        ConfigError: listing every mistake at once, each with its key and what to write instead.
    """
    return resolve(read_settings(path), overrides, environment, name=str(path))


def read_settings(path: str | Path) -> DictConfig:
    """A YAML file merged over those it extends: settings that `resolve` makes a `Config` of.

    Raises:
        ConfigError: there is no such file, or it cannot be read.
    """
    with _explained(str(path)):
        return _read(Path(path), ())


def resolve(
    settings: DictConfig, overrides: Iterable[str] = (), environment: Mapping[str, str] | None = None, *, name: str
) -> Config:
    """Settings, and what stands over them, as a `Config`; arguments and errors are those of `load_config`.

    Args:
        settings: what `read_settings` gave, or was merged from that.
        name: what to call them in errors.
    """
    given = {key: (value, None) for key, value in map(_split, overrides)}
    environment = os.environ if environment is None else environment
    variables = _from_environment(environment)
    origins = {key: variable for key, (_, variable) in variables.items() if key not in given}
    mistakes: dict[str, str] = {}
    with _explained(name):
        layers = _layers({key: value for key, (value, _) in (variables | given).items()}, origins, mistakes)
        merged = OmegaConf.merge(_defaults(Config), settings, _with_preset(OmegaConf.merge({}, *layers), name))
        values = _resolved(merged, origins, mistakes)
    if isinstance(values, dict):
        values.pop(WORDS, None)
    said = [*_without_effect(environment), *mistakes.values()]
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        said += [explain(each, Config, origins) for each in error.errors() if key_of(each) not in mistakes]
    if said:
        raise ConfigError(f"{name}: {'; '.join(said)}")
    return config


def _layers(texts: Mapping[str, str], origins: Mapping[str, str], mistakes: dict[str, str]) -> list[DictConfig]:
    """Settings by their keys, each as a configuration of its own; what is wrong with the others goes to `mistakes`."""
    layers = []
    for key, text in texts.items():
        try:
            layers.append(_nested(key, text))
        except (OmegaConfBaseException, YAMLError, ValueError) as error:
            said = f"{repr(key)[1:-1]}: {text!r} cannot be read as a value ({one_line(error)})"
            mistakes[key] = said + origin(key, origins)
    return layers


def _resolved(settings: Any, origins: Mapping[str, str], mistakes: dict[str, str]) -> Any:
    """Settings with what they refer to; in the place of a wrong reference, which goes to `mistakes`, stands nothing."""
    while True:
        try:
            return OmegaConf.to_container(settings, resolve=True)
        except OmegaConfBaseException as error:
            key = error.full_key
            if not key or key in mistakes:
                raise
            mistakes[key] = one_line(error) + origin(key, origins)
            OmegaConf.update(settings, key, "")


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """What OmegaConf and YAML raise, as our own errors."""
    try:
        yield
    except ConfigError:
        raise
    except RecursionError as error:
        raise ConfigError(f"{name}: nested too deeply; expected sections such as clip, model and edit") from error
    except TypeError as error:
        raise ConfigError(f"{name}: a list and a section of settings stand for one another; keep one") from error
    except OSError as error:
        raise ConfigError(
            f"{name} cannot be looked for ({error.strerror}); check the path, and who may read it"
        ) from error
    except (OmegaConfBaseException, YAMLError, ValueError) as error:
        raise ConfigError(f"{name}: {one_line(error)}") from error


def _read(path: Path, seen: tuple[Path, ...]) -> DictConfig:
    """A file merged over those it extends."""
    if path.resolve() in seen:
        chain = " → ".join(str(each) for each in [*seen, path.resolve()])
        raise ConfigError(f"the files extend each other in a circle: {chain}; remove one `extends:`")
    if not path.is_file():
        by = f" (named by `extends:` in {seen[-1]})" if seen else ""
        raise ConfigError(f"there is no configuration file {str(path)!r}{by}; see configs/ for examples")
    try:
        own = OmegaConf.load(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as YAML ({one_line(error)})") from error
    if not isinstance(own, DictConfig):
        raise ConfigError(f"{path} holds {type(own).__name__}; expected YAML with keys such as clip, model and edit")
    bases = own.pop("extends", None)
    names = [] if bases is None else list(bases) if isinstance(bases, ListConfig) else [bases]
    if not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{path}: extends is {bases!r}; expected the name of a YAML file, or a list of names")
    parents = [_read(path.parent / os.path.expanduser(name), (*seen, path.resolve())) for name in names]
    merged = OmegaConf.merge(*parents, _with_preset(own, str(path)))
    if not isinstance(merged, DictConfig):
        raise ConfigError(f"{path}: expected YAML with keys such as clip, model and edit")
    return merged


def _with_preset(settings: Any, name: str) -> Any:
    """Settings over those of the preset that they name, if any."""
    if OmegaConf.is_interpolation(settings, "preset"):
        raise ConfigError(f"{name}: preset is a reference; expected one of {', '.join(PRESETS)}, written out")
    preset = settings.get("preset")
    return OmegaConf.merge(PRESETS[preset], settings) if preset in PRESETS else settings


def _defaults(section: type[BaseModel]) -> dict[str, Any]:
    """What holds where nothing is said, so that `${…}` finds it too."""
    defaults: dict[str, Any] = {}
    for name, setting in section.model_fields.items():
        if isinstance(setting.annotation, type) and issubclass(setting.annotation, BaseModel):
            defaults[name] = _defaults(setting.annotation)
        elif not setting.is_required():
            defaults[name] = setting.default
    return defaults


def _split(override: str) -> tuple[str, str]:
    """`key=value` as the two."""
    key, equals, value = override.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError(f"the override {override!r} is not of the form key=value, such as edit.steps=30")
    return key, value


def _from_environment(environment: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """`TOKENFLOW_EDIT__STEPS=30` as key `edit.steps`, value `30` and the variable's name; others are not ours."""
    found = {}
    for name, value in environment.items():
        if re.fullmatch(rf"{ENVIRONMENT_PREFIX}([^_].*__.*[^_]|PRESET)", name):
            found[name.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", ".")] = value, name
    return found


def _without_effect(environment: Mapping[str, str]) -> list[str]:
    """What is wrong with variables that are almost named as settings are."""
    names = [ENVIRONMENT_PREFIX + key.upper().replace(".", "__") for key in all_keys(Config) if "." in key]
    alike = {name.replace("__", "_"): name for name in names}
    return [f"{name}: sets nothing; write {alike[name]}" for name in environment if name in alike]


def _nested(key: str, text: str) -> DictConfig:
    """One setting as a configuration of its own. Sentences and paths are taken as they stand, all else is YAML."""
    kind = annotation(Config, key)
    value: Any = text if kind in (str, Path) else _parsed(text)
    if isinstance(value, list) and is_section(kind):
        value = text  # which is refused like any other that is no section; a list could not even be merged
    for part in reversed(key.split(".")):
        value = {part: value}
    return OmegaConf.create(value)


def _parsed(text: str) -> Any:
    parsed: Any = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]))
    return parsed["value"]

"""The server's YAML: variants of models, limits, prices, the free tier and what else an operator decides."""

from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from tokenflow.apps.one_line import BUNDLED_MODEL
from tokenflow.apps.server.rates import parse_rate
from tokenflow.config import Model
from tokenflow.errors import ConfigError

Mode = Literal["pnp", "sdedit", "controlnet", "keyframes"]
Preset = Literal["standard", "fast"]

MODES: tuple[Mode, ...] = ("pnp", "sdedit", "controlnet", "keyframes")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Limits(_Section):
    """What a request may ask for at most.

    Attributes:
        megabytes: of each uploaded file, in 10⁶ bytes.
        seconds: length of the uploaded clip.
        pixels: width × height of a frame of an upload.
        frames: that are edited.
        steps: of sampling.
        working_pixels: width × height at which the model works.
    """

    megabytes: float = Field(100, gt=0)
    seconds: float = Field(60, gt=0)
    pixels: int = Field(2048 * 1152, ge=1)
    frames: int = Field(120, ge=1)
    steps: int = Field(50, ge=1)
    working_pixels: int = Field(1024 * 1024, ge=1)


class Variant(_Section):
    """What clients call a model: a checkpoint with settings, limits and a price.

    Attributes:
        model: the `model` section of a configuration, or its path.
        preset: of every edit with it.
        settings: more of a configuration, such as `{edit: {steps: 12}}`; requests override some.
        modes: that may be asked for.
        credits: per edited frame and megapixel at the working size.
        limits: of a request.
        description: shown to clients.
    """

    model: Annotated[Model, BeforeValidator(lambda value: {"path": value} if isinstance(value, str) else value)]
    preset: Preset = "standard"
    settings: dict[str, Any] = {}
    modes: tuple[Mode, ...] = Field(("pnp", "sdedit"), min_length=1)
    credits: float = Field(1.0, ge=0)
    limits: Limits = Limits()
    description: str = ""


class FreeTier(_Section):
    """What clients without a key may do.

    Attributes:
        rate: of submissions per address, such as `3/hour`.
        models: names of variants.
        waiting: how many unfinished videos an address may have.
    """

    rate: str
    models: tuple[str, ...] = Field(min_length=1)
    waiting: int = Field(1, ge=1)

    @field_validator("rate")
    @classmethod
    def _is_rate(cls, value: str) -> str:
        parse_rate(value)
        return value


class Webhooks(_Section):
    """Where webhooks may go.

    Attributes:
        allow_private: to addresses of private networks and of this machine, too.
    """

    allow_private: bool = False


class ServerSettings(_Section):
    """All that an operator decides; see docs/service.md.

    Attributes:
        variants: by name; the first is used where a request names none.
        free: what clients without a key may do; None for nothing.
        proxies: addresses and networks whose X-Forwarded-For is believed.
        webhooks: where they may go.
        keep_hours: after which results are deleted, counted from their end.
        waiting: how many unfinished videos a key may have.
        decode_seconds: that looking at an upload may take.
        log_prompts: write prompts to the log.
        page: serve the web page under /ui, where the extra `ui` is installed.
    """

    variants: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")], Variant] = Field(min_length=1)
    free: FreeTier | None = None
    proxies: tuple[str, ...] = ()
    webhooks: Webhooks = Webhooks()
    keep_hours: float = Field(24, gt=0)
    waiting: int = Field(100, ge=1)
    decode_seconds: float = Field(60, gt=0)
    log_prompts: bool = False
    page: bool = True

    @field_validator("proxies")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            ip_network(each)
        return value

    @property
    def default(self) -> str:
        """The variant of a request that names none."""
        return next(iter(self.variants))

    @property
    def body_bytes(self) -> int:
        """The most that a request with files may have: a clip and as much again in masks and images."""
        return int(2e6 * max(variant.limits.megabytes for variant in self.variants.values()))


def read_settings(path: Path | None) -> ServerSettings:
    """The server's YAML; without one, the bundled model as `standard` and `fast`.

    Raises:
        ConfigError: it cannot be read or has mistakes; or there is no file and no bundled model.
    """
    if path is None:
        if not BUNDLED_MODEL.is_dir():
            raise ConfigError(
                f"there is no {BUNDLED_MODEL} here to serve; name the models in a YAML file and give it with --config "
                "(docs/service.md has one)"
            )
        model = BUNDLED_MODEL.as_posix()
        content: Any = {"variants": {name: {"model": model, "preset": name} for name in ("standard", "fast")}}
    else:
        content = _read(path)
    try:
        settings = ServerSettings.model_validate(content)
    except ValidationError as error:
        mistakes = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
        raise ConfigError(f"{path}: {'; '.join(mistakes)}", mistakes) from error
    if settings.free and (unknown := set(settings.free.models) - set(settings.variants)):
        raise ConfigError(f"{path}: free.models: expected names of variants, got {', '.join(sorted(unknown))}")
    return settings


def _read(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read {path} ({' '.join(str(error).split())}); expected a YAML file") from error

"""Jobs: configurations that run together, what each depends on, what they share, and checks before they start."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from tokenflow.config import Config
from tokenflow.errors import BatchError, ClipError, ClipNotFoundError, ConfigError
from tokenflow.models.placement import choose_device, choose_dtype
from tokenflow.video import check_sound, clip_files, probe

MAX_LISTED = 10
"""How many mistakes an error lists; the rest are counted."""


@dataclass(frozen=True)
class Job:
    """One clip and its edit; its output folder is what identifies it."""

    config: Config

    @property
    def output(self) -> Path:
        """The folder of the result."""
        return self.config.output.dir

    @property
    def sources(self) -> list[Path]:
        """The files and folders that are read: the clip, its sound, a mask, edited frames."""
        return self.config.inputs

    @cached_property
    def identity(self) -> str:
        """Changes with the settings, and with the files of clip, mask and edited frames.

        A result of another identity is outdated.
        """
        files = [file for path in self.sources for file in clip_files(path)]
        stamps = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        return hashlib.sha256(f"{self.config.model_dump_json()} {stamps}".encode()).hexdigest()[:16]

    @cached_property
    def inversion(self) -> str:
        """Equal for jobs that share a stored inversion.

        It changes with the settings that the name of a stored inversion depends on (pipeline/inversion.py), which
        needs no clip or model to be read, nor the device of the workers.
        """
        inversion = self.config.inversion.model_dump(mode="json", include={"steps", "iterations"})
        return json.dumps([inversion, self.inverted], sort_keys=True)

    @cached_property
    def inverted(self) -> str:
        """What the inversion is of, whatever its steps and iterations: clip, model and folder."""
        config, model = self.config, self.config.model
        try:
            precision = str(choose_dtype(model.dtype, choose_device(model.device)))
        except ConfigError:  # a device that only the workers have
            precision = f"{model.dtype} on {model.device}"
        clip = config.clip.model_dump(mode="json", exclude={"sound", "cuts"})
        chosen = {"path", "base", "revision", "variant", "vae", "prediction_type", "few_step", "tiling"}
        quantised = {"quantization", "text_encoder_quantization"}
        identity = model.model_dump(mode="json", include=chosen | quantised)
        return json.dumps([clip, identity, precision, str(config.trajectories.dir)], sort_keys=True)

    def may_reuse(self, other: "Job") -> bool:
        """Whether the inversion of another job, once complete, serves this one, too."""
        if self.inversion == other.inversion:
            return True
        own, finer = self.config.inversion, other.config.inversion
        is_finer = finer.steps >= own.steps and finer.iterations >= own.iterations
        return own.reuse and is_finer and self.inverted == other.inverted


def as_jobs(configs: Iterable[Config]) -> list[Job]:
    """One job per configuration.

    Raises:
        BatchError: expected Config objects, got e.g. file names.
    """
    configs = list(configs)
    for config in configs:
        if not isinstance(config, Config):
            raise BatchError(
                f"expected Config objects, got {config!r}; read one with load_config, or several with read_configs"
            )
    return [Job(config) for config in configs]


def check(jobs: Sequence[Job]) -> None:
    """Check everything that can be checked before the work; each clip is opened once.

    Raises:
        BatchError: listing every mistake: no jobs, an output directory of two jobs, a clip or mask that is missing or
            unreadable.
    """
    if not jobs:
        raise BatchError("there is nothing to run; give at least one configuration")
    refuse([*_shared_outputs(jobs), *_unreadable_sources(jobs)])


def refuse(mistakes: Sequence[str]) -> None:
    """Raise one `BatchError` for all mistakes, if there are any."""
    if not mistakes:
        return
    more = f"; and {len(mistakes) - MAX_LISTED} more" if len(mistakes) > MAX_LISTED else ""
    raise BatchError("; ".join(mistakes[:MAX_LISTED]) + more)


def in_order(jobs: Iterable[Job]) -> list[Job]:
    """Jobs in the order in which to start them.

    Jobs with the same model come together, so that a worker keeps its model; among these, first one of each clip, then
    the second of each, so that workers rarely wait for each other's inversion.
    """
    models: dict[str, int] = {}
    seen: Counter[str] = Counter()

    def rank(job: Job) -> tuple[int, int]:
        seen[job.inverted] += 1
        return models.setdefault(job.config.model.model_dump_json(), len(models)), seen[job.inverted]

    return [job for _, job in sorted(((rank(job), job) for job in jobs), key=lambda pair: pair[0])]


def _shared_outputs(jobs: Sequence[Job]) -> list[str]:
    jobs_of: defaultdict[Path, list[Job]] = defaultdict(list)
    for job in jobs:
        jobs_of[job.output.resolve()].append(job)
    return [
        f"{len(group)} jobs have the output directory {group[0].output} "
        f"({', '.join(_describe(job) for job in group[:2])}); give each its own output.dir, or rename the clips or "
        "edits that the folder is named after"
        for group in jobs_of.values()
        if len(group) > 1
    ]


def _describe(job: Job) -> str:
    return f"{job.config.clip.path} to {job.config.edit.prompt!r}"


def _unreadable_sources(jobs: Sequence[Job]) -> list[str]:
    configs = [job.config for job in jobs]
    images = dict.fromkeys(path for each in configs for path in (each.clip.path, each.metrics.mask) if path)
    sounds = dict.fromkeys(each.clip.sound for each in configs if each.clip.sound)
    checks: list[Callable[[], object]] = [
        *(partial(probe, path) for path in images),
        *(partial(check_sound, path) for path in sounds),
    ]
    mistakes = []
    for check_source in checks:
        try:
            check_source()
        except (ClipError, ClipNotFoundError) as error:
            mistakes.append(str(error))
    return mistakes

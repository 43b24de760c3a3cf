"""Jobs: configurations to be edited together, what each depends on, what they share, and whether they can begin."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tokenflow.config import Config
from tokenflow.errors import BatchError, ClipError, ClipNotFoundError, ConfigError
from tokenflow.models.placement import choose_device, choose_dtype
from tokenflow.video import clip_files, probe

SHOWN = 10
"""How many mistakes an error lists; of the others it says how many there are."""


@dataclass(frozen=True)
class Job:
    """One clip and its edit."""

    config: Config

    @property
    def output(self) -> Path:
        """The folder of the result, by which a job is known."""
        return self.config.output.dir

    @property
    def sources(self) -> list[Path]:
        """What it reads: the clip, and its mask if there is one."""
        return [path for path in (self.config.clip.path, self.config.metrics.mask) if path]

    @cached_property
    def identity(self) -> str:
        """Changes with the settings and with the files of clip and mask: tells a result from an outdated one."""
        files = [file for path in self.sources for file in clip_files(path)]
        stamps = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        return hashlib.sha256(f"{self.config.model_dump_json()} {stamps}".encode()).hexdigest()[:16]

    @cached_property
    def inversion(self) -> str:
        """Equal for jobs that share an inversion: it depends on what pipeline/inversion.py stores it under."""
        config, model = self.config, self.config.model
        try:
            precision = str(choose_dtype(model.dtype, choose_device(model.device)))
        except ConfigError:  # a device that only the workers have
            precision = f"{model.dtype} on {model.device}"
        clip = config.clip.model_dump(mode="json")
        inversion = config.inversion.model_dump(mode="json", include={"steps", "iterations"})
        identity = model.model_dump(mode="json", include={"path", "base", "revision", "tiling"})
        return json.dumps([clip, inversion, identity, precision, str(config.trajectories.dir)], sort_keys=True)


def as_jobs(configs: Iterable[Config]) -> list[Job]:
    """A job for each configuration.

    Raises:
        BatchError: what is given are no configurations, but perhaps names of their files.
    """
    configs = list(configs)
    for config in configs:
        if not isinstance(config, Config):
            raise BatchError(
                f"expected configurations; got {config!r}: load_config reads one from its file, read_configs several"
            )
    return [Job(config) for config in configs]


def check(jobs: Sequence[Job]) -> None:
    """Look at everything that can be looked at before work begins; each clip is opened once.

    Raises:
        BatchError: naming every mistake: no jobs, an output directory of two, a clip or mask that is missing or
            unreadable.
    """
    if not jobs:
        raise BatchError("there is nothing to edit; give at least one configuration")
    refuse([*_shared_outputs(jobs), *_unreadable_sources(jobs)])


def refuse(mistakes: Sequence[str]) -> None:
    """Raise one `BatchError` for all mistakes, if there are any."""
    if not mistakes:
        return
    more = f"; and {len(mistakes) - SHOWN} more" if len(mistakes) > SHOWN else ""
    raise BatchError("; ".join(mistakes[:SHOWN]) + more)


def in_order(jobs: Iterable[Job]) -> list[Job]:
    """Jobs in the order in which to begin them.

    Those of one model come together, so that a worker keeps its model; of these, first one of each clip, then the
    second of each, so that workers seldom wait for each other's inversion.
    """
    models: dict[str, int] = {}
    begun: Counter[str] = Counter()

    def place(job: Job) -> tuple[int, int]:
        begun[job.inversion] += 1
        return models.setdefault(job.config.model.model_dump_json(), len(models)), begun[job.inversion]

    return [job for _, job in sorted(((place(job), job) for job in jobs), key=lambda pair: pair[0])]


def _shared_outputs(jobs: Sequence[Job]) -> list[str]:
    jobs_of: defaultdict[Path, list[Job]] = defaultdict(list)
    for job in jobs:
        jobs_of[job.output.resolve()].append(job)
    return [
        f"{len(group)} jobs have the output directory {group[0].output} "
        f"({', '.join(_describe(job) for job in group[:2])}); give each its own output.dir, or clips and edits that "
        "give it its name other names"
        for group in jobs_of.values()
        if len(group) > 1
    ]


def _describe(job: Job) -> str:
    return f"{job.config.clip.path} to {job.config.edit.prompt!r}"


def _unreadable_sources(jobs: Sequence[Job]) -> list[str]:
    mistakes = []
    for path in dict.fromkeys(path for job in jobs for path in job.sources):
        try:
            probe(path)
        except (ClipError, ClipNotFoundError) as error:
            mistakes.append(str(error))
    return mistakes

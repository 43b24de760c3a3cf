"""What `tokenflow doctor` prints: this machine, what fits on it, where files go, and what is missing."""

import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import httpx
import psutil
import torch
from huggingface_hub import constants

from tokenflow.apps.models_list import EVERYTHING, NOT, device_memory, mark
from tokenflow.apps.result_lines import aligned
from tokenflow.config import Model, Trajectories
from tokenflow.errors import ModelError
from tokenflow.models.blank import stored_weights
from tokenflow.models.checkpoints.folder import INDEX
from tokenflow.models.placement import choose_device, choose_dtype
from tokenflow.models.presets import PRESETS
from tokenflow.models.sizes import sizes_of
from tokenflow.pipeline.disk_space import free_bytes
from tokenflow.report.provenance import UNKNOWN, versions
from tokenflow.report.units import format_bytes
from tokenflow.video.encoders import missing_codecs

EXTRAS = {
    "ui": ("gradio", "the web page, tokenflow ui"),
    "ray": ("ray", "batches on Ray"),
    "serve": ("sqlalchemy", "the service, tokenflow serve"),
}
"""Optional dependencies: a module of each, and what it is for."""

MODELS = Path("data/models")
"""Where models are looked for, in the working folder."""

LITTLE_DISK = 5 * 10**9
"""Free bytes below which an inversion of ten seconds hardly fits (docs/result_folder.md)."""

PATIENCE = 3.0
"""Seconds to wait for the Hub."""


@dataclass(frozen=True)
class Finding:
    """Something about this machine.

    Attributes:
        name: what it is about.
        text: what was found.
        advice: what to do about it; None where nothing is missing.
        hinders: whether no edit can be made until that is done.
    """

    name: str
    text: str
    advice: str | None = None
    hinders: bool = False


def examine(*, reach: Callable[[], bool] | None = None) -> list[Finding]:
    """All findings, in the order in which they are printed.

    Args:
        reach: whether the Hub answers; by default it is asked.
    """
    return [
        _versions(),
        _device(),
        _main_memory(),
        _disk(),
        _codecs(),
        _hub(reach or hub_answers),
        *_models(),
        *_extras(),
    ]


def doctor_lines(findings: Iterable[Finding]) -> list[str]:
    """A line per finding, and then one per advice."""
    findings = list(findings)
    advice = [each.advice for each in findings if each.advice is not None]
    return [*aligned({each.name: each.text for each in findings}), *([""] if advice else []), *advice]


def is_sound(findings: Iterable[Finding]) -> bool:
    """Whether edits can be made."""
    return not any(each.hinders for each in findings)


def hub_answers() -> bool:
    """Whether the Hub answers soon; a name server that does not answer is not waited for either."""
    answered = threading.Event()

    def ask() -> None:
        try:
            httpx.head(constants.ENDPOINT, timeout=PATIENCE, follow_redirects=False)
        except httpx.HTTPError:
            return
        answered.set()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return answered.is_set()


def _versions() -> Finding:
    found = versions()
    missing = [name for name, version in found.items() if version == UNKNOWN]
    text = ", ".join(f"{name} {version}" for name, version in found.items())
    if not missing:
        return Finding("versions", text)
    return Finding("versions", text, f"install tokenflow again: {', '.join(missing)} cannot be imported", hinders=True)


def _device() -> Finding:
    device = choose_device("auto")
    precision = str(choose_dtype("auto", device)).removeprefix("torch.")
    if device.type == "cpu":
        text = f"CPU, {torch.get_num_threads()} threads, in {precision}"
        if shutil.which("nvidia-smi") is not None:
            advice = "torch cannot use the NVIDIA GPU of this machine: install one that was built for its CUDA version"
            return Finding("device", text, advice)
        return Finding("device", text)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "Apple GPU"
    return Finding("device", f"{name}, {format_bytes(device_memory() or 0)}, in {precision}")


def _main_memory() -> Finding:
    memory = psutil.virtual_memory()
    return Finding("main memory", f"{format_bytes(memory.total)}, {format_bytes(memory.available)} of it free")


def _disk() -> Finding:
    folder = Trajectories().dir
    free = free_bytes(folder)
    text = f"{format_bytes(free)} free for inversions in {folder.absolute()} (trajectories.dir)"
    if free >= LITTLE_DISK:
        return Finding("disk", text)
    advice = "set trajectories.dir to a larger disk, or make room: tokenflow inversions prune --older-than 30"
    return Finding("disk", text, advice)


def _codecs() -> Finding:
    missing = missing_codecs()
    if not missing:
        return Finding("video", "all codecs of output.codec")
    advice = f'no {", ".join(missing)}: install PyAV from its own wheels, pip install --force-reinstall "av>=18,<19"'
    return Finding("video", f"no {', '.join(missing)}", advice, hinders="h264" in missing)


def _hub(reach: Callable[[], bool]) -> Finding:
    cache = f"models of the Hub go to {constants.HF_HUB_CACHE} (HF_HOME)"
    if constants.is_offline_mode():
        return Finding("Hub", f"offline mode (HF_HUB_OFFLINE); {cache}")
    if reach():
        return Finding("Hub", f"reachable; {cache}")
    advice = "the Hub cannot be reached: set model.path to a folder, or set HF_ENDPOINT to a mirror"
    return Finding("Hub", f"{constants.ENDPOINT} does not answer; {cache}", advice)


def _models() -> Iterator[Finding]:
    """Models at hand, and published ones that fit."""
    available = device_memory() or psutil.virtual_memory().total
    here = []
    for index in sorted(MODELS.glob(f"*/{INDEX}")):
        path = index.parent
        try:
            weights = stored_weights(Model(path=str(path)))
        except ModelError:
            continue
        if weights:
            here.append(f"{path} ({sizes_of(str(path)).native} pixels, {format_bytes(weights)})")
    yield Finding("models here", ", ".join(here) or f"none in {MODELS}")
    marks = {preset: mark(preset, available) for preset in PRESETS}
    whole = [f"{preset.name} at {preset.network.side}" for preset, sign in marks.items() if sign == EVERYTHING]
    saving = [preset.name for preset, sign in marks.items() if sign not in (EVERYTHING, NOT)]
    where = "this GPU" if device_memory() else "main memory"
    yield Finding(f"fit {where}", ", ".join(whole) or "none at their native size with everything on the device")
    if saving:
        yield Finding("fit sparingly", f"{', '.join(saving)} (see tokenflow models)")


def _extras() -> Iterator[Finding]:
    for extra, (module, purpose) in EXTRAS.items():
        if find_spec(module) is None:
            yield Finding(extra, "not installed", f'for {purpose}: pip install "tokenflow[{extra}]"')
        else:
            yield Finding(extra, f"installed, for {purpose}")

"""What `tokenflow edit --dry-run` prints, and the page shows before an edit."""

import psutil

from tokenflow.apps.result_lines import aligned
from tokenflow.config import Config
from tokenflow.models.model import Model
from tokenflow.models.placement import choose_device
from tokenflow.pipeline.disk_space import free_bytes
from tokenflow.pipeline.memory import LESS, MemoryEstimate
from tokenflow.pipeline.outlook import outlook
from tokenflow.report.units import format_bytes, format_seconds

UNKNOWN = "unknown until the model is on this machine"
UNTIMED = "unknown until the clip is inverted with these settings"


def dry_run_lines(config: Config, seeds: int | None = None) -> list[str]:
    """The stages that an edit would run, and the time, memory and disk space they would take, a line each."""
    return aligned(dry_run(config, seeds))


def dry_run(
    config: Config, seeds: int | None = None, *, timed: bool = True, model: Model | None = None
) -> dict[str, str]:
    """The stages that an edit would run, and the time, memory and disk space they would take, each by its name.

    Args:
        config: of the clip and its edit.
        seeds: of a sheet of several; None for a whole edit.
        timed, model: see `outlook`.

    Raises:
        Everything that `outlook` raises.
    """
    found = outlook(config, seeds=seeds, timed=timed, model=model)
    disk = found.disk
    parts = {
        "inversion": disk.inversion,
        "flow kept with it": disk.flow,
        "scratch while it runs": disk.scratch,
        "result": disk.result,
    }
    space = ", ".join(f"{format_bytes(size)} {name}" for name, size in parts.items() if size)
    return {
        "frames": f"{found.frames} of {found.width}×{found.height}",
        "stages": ", ".join(found.stages),
        "time": _time_text(found.seconds, timed),
        "memory": memory_text(found.memory, found.device_memory, config),
        "disk": f"about {space}; {format_bytes(free_bytes(config.output.dir))} free",
        "output": str(config.output.dir),
    }


def _time_text(seconds: float | None, timed: bool) -> str:
    if seconds is None:
        return UNKNOWN if timed else UNTIMED
    return f"about {format_seconds(seconds)}"


def memory_text(memory: MemoryEstimate | None, available: int, config: Config) -> str:
    """What an edit takes on its device and in main memory, and of how much."""
    if memory is None:
        return UNKNOWN
    program = psutil.Process().memory_info().rss
    if choose_device(config.model.device).type == "cpu":
        needed = program + memory.peak
        text = f"about {format_bytes(needed)} of {format_bytes(available)} main memory"
    else:
        needed = memory.peak
        text = (
            f"about {format_bytes(needed)} of {format_bytes(available)} on the device, "
            f"{format_bytes(program + memory.all_weights)} of main memory"
        )
    return text if needed <= available else f"{text}: more than there is; {LESS}"

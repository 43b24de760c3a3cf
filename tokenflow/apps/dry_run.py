"""What `tokenflow edit --dry-run` prints, and the page shows before an edit."""

from tokenflow.apps.result_lines import aligned
from tokenflow.config import Config
from tokenflow.pipeline.disk_space import free_bytes
from tokenflow.pipeline.outlook import outlook
from tokenflow.report.units import format_bytes

UNKNOWN = "unknown until the clip is inverted and checked"


def dry_run_lines(config: Config) -> list[str]:
    """The stages that an edit would run, and the time, memory and disk space they would take, a line each."""
    return aligned(dry_run(config))


def dry_run(config: Config) -> dict[str, str]:
    """The stages that an edit would run, and the time, memory and disk space they would take, each by its name.

    Raises:
        Everything that `outlook` raises.
    """
    found = outlook(config)
    disk = found.disk
    parts = {"inversion": disk.inversion, "scratch while it runs": disk.scratch, "result": disk.result}
    space = ", ".join(f"{format_bytes(size)} {name}" for name, size in parts.items() if size)
    return {
        "frames": f"{found.frames} of {found.width}×{found.height}",
        "stages": ", ".join(found.stages),
        "time": UNKNOWN if found.seconds is None else f"about {_duration(found.seconds)}",
        "memory": UNKNOWN if found.memory_mb is None else f"about {found.memory_mb} MiB, as while it was checked",
        "disk": f"about {space}; {format_bytes(free_bytes(config.output.dir))} free",
        "output": str(config.output.dir),
    }


def _duration(seconds: float) -> str:
    """Seconds, or minutes where there are two or more."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"

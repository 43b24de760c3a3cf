"""The first stage, and where its results are stored."""

from pathlib import Path

from pydantic import Field

from tokenflow.config.sections.section import LocalPath, PositiveCount, Section


class Inversion(Section):
    """DDIM inversion of the clip, and the check of its reconstruction."""

    steps: PositiveCount = Field(
        25,
        description="Inversion steps. More reconstruct the source better, and take time and disk space in proportion.",
    )
    batch_size: PositiveCount = Field(
        8, description="Frames per network call. Sets speed and memory; changes the result by rounding only."
    )
    iterations: int = Field(
        1,
        ge=1,
        le=10,
        description="Fixed-point iterations per step, one network call each, 1 to 10. More bring the inversion "
        "closer to exact.",
    )
    reuse: bool = Field(
        False,
        description="If this inversion is not stored but one that differs only in more steps or iterations is, use the "
        "finest of these instead. The result then depends on what is stored; report.json says which one was used.",
    )
    check: bool = Field(
        True,
        description="Sample the inversion back without an edit, and compare it with the source: one network call per "
        "frame and step. If off, the reconstruction video and its figures in reports are missing.",
    )
    warn_below_psnr: float = Field(
        26.0,
        ge=0,
        allow_inf_nan=False,
        description="Warn if the autoencoder alone stays below this PSNR, in dB: the model cannot represent the clip, "
        "and no edit can be better. A reconstruction below 30 dB is warned of, too, if the inversion is more than 3 dB "
        "below the autoencoder. 0 for no warning.",
    )


class Trajectories(Section):
    """Where inversions are stored, to be shared by all edits of a clip."""

    dir: LocalPath = Field(Path("trajectories"), description="Folder for stored inversions.")

"""What a page may use: folders, models and the limits of uploads."""

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path

from tokenflow.apps.one_line import BUNDLED_MODEL
from tokenflow.apps.uploads import Limits

DIGITS = 16
"""Of the SHA-256 of a user's name in the name of a folder."""


@dataclass(frozen=True)
class Space:
    """The folders, models and limits of a page.

    Attributes:
        outputs: a folder per result, and the uploads.
        trajectories: stored inversions.
        examples: configurations that are offered as examples; their clips may be edited.
        models: names that are offered.
        is_local: whether only the user of this machine sees the page: then other models and clips of this machine may
            be named, too.
        limits: of uploads.
        edit_settings: the settings of `edit` that have a field where the page is shared; empty for all.
    """

    outputs: Path = Path("outputs")
    trajectories: Path = Path("trajectories")
    examples: tuple[Path, ...] = field(default_factory=lambda: tuple(sorted(Path("configs").glob("*.yaml"))))
    models: tuple[str, ...] = field(default_factory=lambda: bundled_models())
    is_local: bool = True
    limits: Limits = field(default_factory=Limits)
    edit_settings: tuple[str, ...] = ()

    def of(self, user: str) -> "Space":
        """The part of a shared space that belongs to a user: a folder in `outputs`; all of it where it is local.

        Args:
            user: by name.
        """
        if self.is_local:
            return self
        digest = hashlib.sha256(user.encode()).hexdigest()[:DIGITS]
        return replace(self, outputs=self.outputs / f"user-{digest}")

    def may_read(self, path: Path) -> bool:
        """Whether the page may read a file or folder that its user names: an upload, and where it is local any."""
        return self.is_local or path.resolve().is_relative_to(self.uploads.resolve())

    @property
    def uploads(self) -> Path:
        """What was uploaded; clips are named after their content."""
        return self.outputs / "uploads"

    @property
    def edited_frames(self) -> Path:
        """Uploaded images: a folder for those that were uploaded together, named after its content."""
        return self.uploads / "frames"

    @property
    def proxies(self) -> Path:
        """Copies of clips that browsers cannot play."""
        return self.outputs / "proxies"


def bundled_models() -> tuple[str, ...]:
    """The models of the repository, where the working folder has them."""
    folders = sorted(path.parent for path in BUNDLED_MODEL.parent.glob("*/model_index.json"))
    return tuple(folder.as_posix() for folder in folders)

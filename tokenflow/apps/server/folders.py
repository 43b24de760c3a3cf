"""Where the service keeps files. All names are made here; none comes from a client."""

import os
import re
import secrets
import shutil
from pathlib import Path

from tokenflow.config import Config
from tokenflow.config.files import named_files
from tokenflow.store.files import output_errors


class Folders:
    """The folder of the service.

    Args:
        root: the folder; created if missing, for this user alone.

    Raises:
        OutputError: it cannot be created.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        with output_errors(root, "set --data to a folder that can be written to"):
            for folder in (self.root, self.incoming, self.families, self.results, self.pools, self.page):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    @property
    def database(self) -> str:
        """The URL of the database, unless another is given."""
        return f"sqlite:///{self.root / 'state.sqlite'}"

    @property
    def incoming(self) -> Path:
        """Uploads that are not accepted yet."""
        return self.root / "incoming"

    @property
    def families(self) -> Path:
        """A folder per clip."""
        return self.root / "clips"

    @property
    def results(self) -> Path:
        """A folder per video."""
        return self.root / "results"

    @property
    def pools(self) -> Path:
        """A lock per pool of workers."""
        return self.root / "pools"

    @property
    def page(self) -> Path:
        """Uploads and results of the web page, a folder per visitor."""
        return self.root / "page"

    def family(self, family: str) -> Path:
        """The clip of a video and all its remixes, with their masks and the inversion."""
        return self.families / family

    def result(self, video: str) -> Path:
        """What the edit of a video leaves."""
        return self.results / video

    def hide(self, text: str, config: Config) -> str:
        """A text for clients, who should not learn where the service keeps files and models: their names alone.

        Args:
            text: such as a message or a report.
            config: of the edit it is about.
        """
        text = re.sub(re.escape(str(self.root)) + r"([\\/][^\\/\s\"'<>]+)*[\\/]", "", text)
        named = {name for given in named_files(config).values() for name in (given, str(Path(given).absolute()))}
        for name in sorted(named, key=len, reverse=True):
            if Path(name).name != name:
                text = text.replace(name, Path(name).name)
        return text.replace(str(self.root), self.root.name)

    def delete(self, folder: Path) -> None:
        """Delete a folder of these, whether it exists or not."""
        if folder.parent not in (self.incoming, self.families, self.results):
            raise ValueError(f"{folder} is not one of the service's")
        shutil.rmtree(folder, ignore_errors=True)

    def secret(self) -> bytes:
        """What the secrets of webhooks are made from; drawn once, and kept for this user alone."""
        path = self.root / "webhooks.key"
        drawn = self.root / f".webhooks.{os.getpid()}"
        if not path.exists():
            with output_errors(path):
                descriptor = os.open(drawn, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(secrets.token_bytes(32))
                if not path.exists():
                    drawn.replace(path)
        return path.read_bytes()


def new_id(kind: str) -> str:
    """An id that cannot be guessed."""
    return f"{kind}_{secrets.token_hex(16)}"

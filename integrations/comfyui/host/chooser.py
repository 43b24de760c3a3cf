"""Widgets that name a model: a list of those in ComfyUI's folders, and a text for a path or a Hub id."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from comfy_api.latest import io

from .folders import found_file, model_files, model_folders

ELSEWHERE = "path or Hub id"
"""The choice for models that are not in ComfyUI's folders."""


@dataclass(frozen=True)
class Chooser:
    """Two widgets that name a model.

    Attributes:
        name: of the list; the text's is `path`.
        kinds: of ComfyUI's folders that hold such files, such as `loras`.
        what: the model is, with its article.
        forms: in which it is read.
        folders: kind and marker (see `model_folders`) of folders that are listed as well.
        default: of the text.
        example: shown in the text while it is empty.
    """

    name: str
    kinds: tuple[str, ...]
    what: str
    forms: str
    folders: tuple[str, str] | None = None
    default: str = ""
    example: str = ""

    def widgets(self) -> list[io.Input]:
        """The list and the text."""
        files = [name for kind in self.kinds for name in model_files(kind)]
        names = dict.fromkeys([*files, *self._folders()])  # each once
        what = f"{self.what[0].upper()}{self.what[1:]}"
        return [
            io.Combo.Input(
                self.name,
                options=[ELSEWHERE, *names],
                default=ELSEWHERE,
                tooltip=f"{what} from ComfyUI's folders; {ELSEWHERE} takes the one named below.",
            ),
            io.String.Input(
                "path",
                default=self.default,
                placeholder=self.example,
                tooltip=f"{what}: {self.forms}. Used if {ELSEWHERE} is chosen above.",
            ),
        ]

    def path(self, given: Mapping[str, Any]) -> str:
        """What the widgets name, as the library takes it.

        Args:
            given: values of a node's widgets by name, these two among them.

        Raises:
            ValueError: they name nothing, or a file that is no longer there.
        """
        choice = given[self.name]
        if choice == ELSEWHERE:
            if path := (given["path"] or "").strip():
                return str(path)
            raise ValueError(f"{self.what} is not named; choose one from the list, or enter its path or Hub id")
        found = self._folders().get(choice) or found_file(choice, self.kinds)
        if found is None:
            raise ValueError(f"{self.what} {choice!r} is no longer in ComfyUI's folders; choose another")
        return found

    def fingerprint(self, given: Mapping[str, Any]) -> str:
        """Changes with the content of the model where it is a local one, so that a file that was replaced is noticed.

        What comes from a link is None, and is known only once the node runs.
        """
        if given[self.name] is None or (given[self.name] == ELSEWHERE and given["path"] is None):
            return ""
        with suppress(ValueError):  # the node itself says what is wrong
            return content_fingerprint(self.path(given))
        return ""

    def _folders(self) -> dict[str, str]:
        return model_folders(*self.folders) if self.folders else {}


def content_fingerprint(path: str | None) -> str:
    """Changes with the content of a local model. Of a Hub id only the name counts, so that a download changes nothing.

    Args:
        path: of the model; None or empty where there is none.
    """
    if not path:
        return ""
    from tokenflow.models.identity import path_fingerprint  # takes seconds to import

    return path_fingerprint(path)

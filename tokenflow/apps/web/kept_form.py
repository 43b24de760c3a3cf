"""The form that a tab keeps over a reload, or that a job came from."""

import json
from dataclasses import dataclass
from pathlib import Path

from tokenflow.apps.web.form import Values, to_values
from tokenflow.apps.web.jobs import Job
from tokenflow.apps.web.site import Site
from tokenflow.apps.web.space import Space
from tokenflow.errors import ConfigError

CLIP, PROMPTS = "clip", "prompts"
"""What a tab keeps beside the settings: the file of the clip, and the sentences of the tab Compare."""


@dataclass(frozen=True)
class Form:
    """What the page shows.

    Attributes:
        clip: its file; empty for none.
        prompts: to compare, one per line.
        values: by the key of the setting.
    """

    clip: str
    prompts: str
    values: Values


def kept_form(text: str, site: Site) -> Form | None:
    """The form that a tab kept; None if it kept none.

    The text comes from a browser: values are those of any form, and the clip is left out if the page may not read it.

    Args:
        text: JSON with the text of each field.
        site: what the user sees of it.
    """
    try:
        held = json.loads(text)
        kept = {str(key): value for key, value in held.items() if isinstance(value, str)}
    except (ValueError, AttributeError):
        return None
    values = {key: kept.get(key, "") for key in site.keys}
    return Form(_readable(kept.get(CLIP, ""), site), kept.get(PROMPTS, ""), values)


def form_of(job: Job, space: Space) -> Form:
    """The form that a job came from."""
    config = job.configs[0]
    return Form(str(config.clip.path), "", to_values(config, space))


def _readable(clip: str, site: Site) -> str:
    try:
        site.check_clip(Path(clip))
    except ConfigError:
        return ""
    return clip if clip and Path(clip).is_file() else ""

"""Users of a shared page have results of their own; the user of a local page has all."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tokenflow.apps.web.site import Site
from tokenflow.apps.web.space import Space
from tokenflow.apps.web.work import edit_job
from tokenflow.errors import ConfigError


def request(user: str) -> Any:
    return SimpleNamespace(username=user)


def test_each_user_of_a_shared_page_has_a_folder_in_the_outputs(space: Space) -> None:
    shared = replace(space, is_local=False)
    folders = [shared.of(user).outputs for user in ("ann", "bob", "../bob", "a" * 300)]
    assert len(set(folders)) == 4
    assert {folder.parent for folder in folders} == {space.outputs}
    assert shared.of("ann") == shared.of("ann")
    assert space.of("ann") == space


def test_a_shared_page_reads_uploads_only(space: Space, clip: str) -> None:
    shared = replace(space, is_local=False)
    assert shared.may_read(shared.uploads / "clip.mp4")
    assert shared.may_read(shared.edited_frames / "abc")
    assert not shared.may_read(Path(clip))
    assert not shared.may_read(shared.uploads / ".." / "clip.mp4")
    assert not shared.may_read(shared.of("bob").uploads / "clip.mp4")
    assert space.may_read(Path(clip))


def test_users_see_their_own_jobs_and_uploads_only(site: Site, values: dict[str, str], clip: str) -> None:
    shared = replace(site, space=replace(site.space, is_local=False))
    ann, bob = shared.of(request("ann")), shared.of(request("bob"))
    form = {key: text for key, text in values.items() if key in shared.keys}
    job = edit_job([ann.config(form, clip)], site.editor)
    site.jobs.submit(job)
    assert (ann.newest_unfinished(), bob.newest_unfinished()) == (job, None)
    site.jobs.cancel(job)
    with pytest.raises(ConfigError, match="not a clip of this page"):
        bob.config(form, str(ann.space.uploads / "clip.mp4"))

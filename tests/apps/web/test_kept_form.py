"""A tab keeps its form over a reload; what it kept is trusted no more than any form."""

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from tokenflow.apps.web.jobs import Job
from tokenflow.apps.web.kept_form import CLIP, PROMPTS, Form, form_of, kept_form
from tokenflow.apps.web.page import build
from tokenflow.apps.web.site import Site

REQUEST: Any = SimpleNamespace(username="ann")


def test_what_was_kept_comes_back(site: Site, values: dict[str, str], clip: str) -> None:
    kept = json.dumps({CLIP: clip, PROMPTS: "a\nb", **values})
    assert kept_form(kept, site) == Form(clip, "a\nb", values)


@pytest.mark.parametrize("text", ["", "{", "[]", "3"])
def test_another_text_is_no_form(text: str, site: Site) -> None:
    assert kept_form(text, site) is None


def test_settings_that_the_page_does_not_have_are_left_out(site: Site) -> None:
    form = kept_form(json.dumps({"output.dir": "/etc", "edit.seed": 3, "edit.prompt": "a cat"}), site)
    assert form is not None
    assert set(form.values) == set(site.keys)
    assert (form.values["edit.prompt"], form.values["edit.seed"]) == ("a cat", "")


@pytest.mark.parametrize("clip", ["/etc/hostname", "gone.mp4"])
def test_a_clip_that_may_not_or_cannot_be_read_is_left_out(clip: str, site: Site) -> None:
    shared = replace(site, space=replace(site.space, is_local=False))
    form = kept_form(json.dumps({CLIP: clip}), shared.of(REQUEST))
    assert form == Form("", "", dict.fromkeys(shared.keys, ""))


def test_a_reload_prefers_what_was_typed_to_the_form_of_the_job(site: Site, values: dict[str, str], clip: str) -> None:
    restore = {each.fn.__name__: each.fn for each in build(site).fns.values() if each.fn is not None}["restore"]
    site.shelf.warm_up = lambda settings: None  # type: ignore[method-assign]
    job = Job("trial", (site.config(values, clip),), lambda on_event, cancel: None)
    site.jobs.submit(job)
    assert form_of(job, site.space).values["edit.prompt"] == values["edit.prompt"]
    keys = list(site.keys)
    for kept, prompt in ((json.dumps(values | {"edit.prompt": "a cat"}), "a cat"), ("", values["edit.prompt"])):
        name, _, _, *fields = restore(REQUEST, job.id, kept)
        assert name == job.id
        assert len(fields) == len(keys)
        assert prompt in [each["value"] for each in fields]

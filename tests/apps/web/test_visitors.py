"""Visitors who give no name have results of their own, too."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from tokenflow.apps.web import mount
from tokenflow.apps.web.site import Site
from tokenflow.apps.web.space import Space
from tokenflow.apps.web.visitors import COOKIE, VisitorCookie


def request(session: str, **cookies: str) -> Any:
    return SimpleNamespace(username=None, cookies=cookies, session_hash=session)


def test_a_visitor_is_known_by_cookie_or_by_tab(site: Site) -> None:
    shared = replace(site, space=replace(site.space, is_local=False))
    ann = request("a", **{COOKIE: "ann"})
    again = request("b", **{COOKIE: "ann"})
    outputs = [shared.of(each).space.outputs for each in (ann, again, request("a"), request("b"))]
    assert outputs[0] == outputs[1]
    assert len(set(outputs)) == 3
    assert {folder.parent for folder in outputs} == {site.space.outputs}


@pytest.mark.parametrize(("is_local", "count"), [(True, 0), (False, 1)])
def test_a_shared_page_gives_each_browser_a_cookie_once(is_local: bool, count: int, space: Space) -> None:
    app = FastAPI()
    site = mount(app, "/ui", replace(space, is_local=is_local))
    app.get("/other")(lambda: "other")
    with TestClient(app) as first, TestClient(app) as second:
        first.get("/other")
        assert len(first.cookies) == 0
        for client in (first, second, first):
            client.get("/ui/")
        found = [client.cookies.get(COOKIE) for client in (first, second)]
    site.jobs.close()
    assert len({each for each in found if each}) == 2 * count


@pytest.mark.parametrize(
    ("scheme", "rules"), [("https", "SameSite=None; Secure; Partitioned"), ("http", "SameSite=Lax")]
)
def test_within_the_page_of_another_site_the_cookie_is_sent_over_https(scheme: str, rules: str) -> None:
    app = FastAPI()
    app.add_middleware(VisitorCookie, path="")
    with TestClient(app) as client:
        answer = client.get("/", headers={"x-forwarded-proto": scheme})
    assert answer.headers["set-cookie"].endswith(f"; HttpOnly; {rules}")

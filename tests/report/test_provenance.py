import json

from tokenflow.report import Stopwatch, versions


def test_figures_and_versions_are_json() -> None:
    content = {**Stopwatch().figures(), **versions()}
    assert json.loads(json.dumps(content)) == content
    assert {"python", "tokenflow", "torch", "diffusers"} <= set(versions())

"""Clients without a key: only where the operator lets them, each address within its limits."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient

from tests.apps.server.fixtures import Submit
from tokenflow.apps.server.callers import network
from tokenflow.apps.server.settings import FreeTier, Limits, ServerSettings, read_settings
from tokenflow.errors import ConfigError

pytestmark = pytest.mark.serve

PROXY = "10.0.0.1"


@pytest.fixture
def content(content: dict[str, Any]) -> dict[str, Any]:
    free = {"rate": "2/hour", "models": ["standard"], "waiting": 5}
    return content | {"free": free, "proxies": ["10.0.0.0/8"]}


@pytest.fixture
def client(app: Any) -> Any:
    """A proxy that is trusted."""
    with TestClient(app, client=(PROXY, 1)) as client:
        yield client


def behind(*addresses: str) -> dict[str, str]:
    return {"x-forwarded-for": ", ".join(addresses)}


def test_each_address_behind_a_trusted_proxy_has_its_own_rate(client: TestClient, submit: Submit) -> None:
    assert [submit(behind("1.2.3.4")).status_code for _ in range(3)] == [202, 202, 429]
    assert submit(behind("1.2.3.5")).status_code == 202
    spoofed = behind("9.9.9.9", "1.2.3.4", "10.0.0.7")  # only what trusted proxies have added counts
    assert submit(spoofed).status_code == 429


def test_an_address_that_is_no_trusted_proxy_speaks_for_itself(app: Any, submit: Submit) -> None:
    with TestClient(app, client=("5.6.7.8", 1)) as client:
        for number in range(2):
            answer = client.get("/v1/models", headers=behind(f"1.1.1.{number}"))
            assert answer.status_code == 200
        form = {"prompt": "x"}
        statuses = [client.post("/v1/videos", data=form, headers=behind(f"1.1.1.{n}")).status_code for n in range(3)]
    assert statuses == [422, 422, 429]


def test_without_a_key_only_some_models_and_no_lists_and_webhooks(client: TestClient, submit: Submit) -> None:
    caller = behind("1.2.3.4")
    assert [each["id"] for each in client.get("/v1/models", headers=caller).json()["data"]] == ["standard"]
    assert submit(caller, model="small").status_code == 422
    video = submit(caller).json()
    assert client.get(f"/v1/videos/{video['id']}", headers=caller).json()["status"] == "queued"
    assert client.get(f"/v1/videos/{video['id']}", headers=behind("1.2.3.5")).status_code == 404
    assert client.get("/v1/videos", headers=caller).status_code == 401
    assert client.get("/v1/usage", headers=caller).status_code == 401
    other = behind("1.2.3.6")
    assert submit(other, webhook_url="https://example.org").json()["error"]["param"] == "webhook_url"


def test_figures_are_not_for_the_internet(client: TestClient) -> None:
    assert client.get("/metrics", headers=behind("8.8.8.8")).status_code == 404
    assert client.get("/metrics", headers=behind("10.1.1.1")).status_code == 200


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("1.2.3.4", "1.2.3.4"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("nonsense", "unknown"),
        (None, "unknown"),
    ],
)
def test_a_subscriber_is_one_address(address: str | None, expected: str) -> None:
    assert network(address) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"free": {"rate": "often", "models": ["standard"]}}, r"free.rate: .*expected a rate such as 10/min"),
        ({"free": {"rate": "1/s", "models": ["sana"]}}, "free.models: expected names of variants, got sana"),
        ({"variants": {}}, "variants: "),
        ({"variants": {"../x": {"model": "a"}}}, "variants"),
        ({"keep_days": 3}, "keep_days: Extra inputs are not permitted"),
    ],
)
def test_mistakes_in_the_servers_yaml_are_named(
    change: dict[str, Any], message: str, content: dict[str, Any], tmp_path: Any
) -> None:
    path = tmp_path / "server.yaml"
    path.write_text(yaml.safe_dump(content | change))
    with pytest.raises(ConfigError, match=message):
        read_settings(path)
    path.write_text(yaml.safe_dump(content))
    assert isinstance(read_settings(path), ServerSettings)


def test_the_yaml_of_the_documentation_is_read(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "docs" / "service.md").read_text(encoding="utf-8")
    path = tmp_path / "server.yaml"
    path.write_text(text.split("```yml\n")[1].split("```")[0], encoding="utf-8")
    settings = read_settings(path)
    assert settings.default == "standard"
    assert settings.free == FreeTier(rate="3/hour", models=("fast",))
    written = settings.model_dump(exclude={"variants", "free", "proxies"})
    assert written == ServerSettings(variants=settings.variants).model_dump(exclude={"variants", "free", "proxies"})
    assert settings.variants["standard"].limits == Limits()

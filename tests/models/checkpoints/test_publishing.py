"""What is published on the Hub, and what is said where it cannot be."""

from pathlib import Path

import pytest
from huggingface_hub import constants

from tests.models.checkpoints.stub_hub import StubHub
from tokenflow.errors import ConfigError, OutputError, TokenflowError
from tokenflow.models.checkpoints.publishing import open_repository, upload

NAME = "someone/toy"


@pytest.fixture
def hub(stub_hub: StubHub, monkeypatch: pytest.MonkeyPatch) -> StubHub:
    """One that lets someone write."""
    stub_hub.owners |= {"secret": "someone", "read": "someone"}
    monkeypatch.setenv("HF_TOKEN", "secret")
    return stub_hub


@pytest.mark.parametrize("private", [True, False])
def test_the_files_that_are_named_are_in_a_repository_of_ones_own(private: bool, hub: StubHub, tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt", "state.txt", "samples/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    open_repository(NAME, private=private)
    address = upload(NAME, tmp_path, ["a.txt", "samples/*"], "First")
    assert address.endswith(NAME)
    assert hub.pushed[NAME] == {"a.txt": b"a.txt", "samples/1.png": b"samples/1.png"}
    assert (NAME in hub.private) == private


def test_an_existing_repository_is_written_to_again_and_stays_as_public_as_it_is(hub: StubHub, tmp_path: Path) -> None:
    open_repository(NAME, private=False)
    open_repository(NAME, private=True)
    (tmp_path / "a.txt").write_text("again")
    upload(NAME, tmp_path, ["a.txt"], "Second")
    assert hub.pushed[NAME]["a.txt"] == b"again"
    assert NAME not in hub.private


@pytest.mark.parametrize(
    ("name", "token", "error", "said"),
    [
        (NAME, "", OutputError, r"there is no token: set HF_TOKEN .* `hf auth login`"),
        (NAME, "unknown", OutputError, "it does not know the token"),
        (NAME, "read", OutputError, "the token may not write there"),
        ("another/toy", "secret", OutputError, "the token may not write there"),
        ("toy", "secret", ConfigError, r"push is 'toy'; expected a repository on the Hub, owner/name"),
        ("someone/toy..lora", "secret", ConfigError, "which the Hub does not take as a name"),
    ],
)
def test_a_refusal_is_explained_in_one_line(
    name: str, token: str, error: type[TokenflowError], said: str, hub: StubHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(error, match=said) as caught:
        open_repository(name, private=True)
    assert "\n" not in str(caught.value)
    assert not hub.pushed


def test_a_token_that_may_only_read_an_existing_repository_is_refused_before_the_work(
    hub: StubHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    open_repository(NAME, private=False)
    hub.add(NAME, tmp_path)
    monkeypatch.setenv("HF_TOKEN", "read")
    with pytest.raises(OutputError, match="the token may not write there"):
        open_repository(NAME, private=False)


@pytest.mark.parametrize(
    ("offline", "said"), [(True, "HF_HUB_OFFLINE forbids"), (False, r"the Hub is unreachable \(.*refused")]
)
def test_a_hub_that_cannot_be_asked_is_said(
    offline: bool, said: str, hub: StubHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    if not offline:
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(OutputError, match=said) as caught:
        open_repository(NAME, private=True)
    assert "\n" not in str(caught.value)

"""tokenflow doctor: what this machine has, and what is missing."""

from pathlib import Path

import pytest

from tests.apps.conftest import status
from tests.tiny import save_tiny_model
from tokenflow.apps import doctor
from tokenflow.apps.doctor import Finding, doctor_lines, examine, is_sound
from tokenflow.report import provenance


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Finding]:
    """By name, on this machine, in a folder with one model."""
    monkeypatch.chdir(tmp_path)
    save_tiny_model(tmp_path / "data" / "models" / "tiny")
    return {each.name: each for each in examine(reach=lambda: True)}


def test_every_part_of_the_machine_is_in_it(found: dict[str, Finding], tmp_path: Path) -> None:
    assert "torch 2." in found["versions"].text
    assert "GB" in found["main memory"].text
    assert str(tmp_path / "trajectories") in found["disk"].text
    assert str(Path("data/models/tiny")) in found["models here"].text
    assert "16 pixels" in found["models here"].text
    assert is_sound(found.values())
    assert all(each.text for each in found.values())


@pytest.mark.parametrize(
    ("available", "whole", "sparingly"),
    [(10 * 10**9, "sd1.5 at 512", "sdxl"), (80 * 10**9, "flux.1-dev at 1024", None), (10**9, "none", None)],
)
def test_published_models_are_sorted_by_whether_they_fit(
    available: int, whole: str, sparingly: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "device_memory", lambda: available)
    found = {each.name: each.text for each in doctor._models()}
    assert whole in found["fit this GPU"]
    assert sparingly is None or sparingly in found["fit sparingly"]


def test_a_missing_extra_comes_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "find_spec", lambda module: None if module == "ray" else object())
    findings = list(doctor._extras())
    assert [each.name for each in findings if each.advice] == ["ray"]
    assert doctor_lines(findings)[-1] == 'for batches on Ray: pip install "tokenflow[ray]"'
    assert is_sound(findings)


def test_an_unreachable_hub_hinders_no_edit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.constants, "is_offline_mode", lambda: False)
    finding = doctor._hub(lambda: False)
    assert "does not answer" in finding.text
    assert finding.advice is not None
    assert not finding.hinders


def test_a_hub_that_never_answers_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PATIENCE", 0.05)
    monkeypatch.setattr(doctor.httpx, "head", lambda *_, **__: doctor.threading.Event().wait(60))
    assert not doctor.hub_answers()


def test_a_package_that_cannot_be_imported_is_status_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "hub_answers", lambda: True)
    assert status("doctor") == 0
    monkeypatch.setattr(provenance, "_version", lambda distribution, _: "unknown" if distribution == "av" else "1")
    assert status("doctor") == 1
    assert "install tokenflow again: av cannot be imported" in capsys.readouterr().out

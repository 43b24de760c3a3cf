"""Versions of packages, which never fail."""

import importlib.metadata
import json

import cv2
import pytest
import torch

from tokenflow.report import provenance, versions
from tokenflow.report.profiling import Stopwatch


def test_figures_and_versions_are_json() -> None:
    content = {**Stopwatch().figures(), **versions()}
    assert json.loads(json.dumps(content)) == content
    assert {"python", "tokenflow", "torch", "diffusers"} <= set(versions())


def test_versions_come_from_the_modules_where_no_distribution_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", fail)
    assert versions()["torch"] == torch.__version__
    assert versions()["opencv-python"] == cv2.__version__


@pytest.mark.parametrize("error", [ImportError, OSError, AttributeError])
def test_versions_of_broken_packages_are_unknown(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> str:
        raise error(name)

    monkeypatch.setattr(importlib.metadata, "version", lambda name: None if name == "av" else fail(name))
    monkeypatch.setattr(provenance, "import_module", fail)
    assert set(versions()) == {"python", *provenance.PACKAGES}
    assert {versions()[name] for name in provenance.PACKAGES} == {"unknown"}

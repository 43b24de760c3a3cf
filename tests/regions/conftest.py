"""The clip of the modes' tests."""

from tests.modes.conftest import source

__all__ = ["source"]

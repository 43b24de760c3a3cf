from tests.models.checkpoints.conftest import stub_hub

__all__ = ["stub_hub"]

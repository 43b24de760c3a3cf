"""What is wrong with settings for flow models, told before any weight is downloaded or read."""

from pathlib import Path

from tokenflow.errors import ModelError


def check_flow(name: str, folder: Path, prediction_type: str | None) -> None:
    """Refuse to override what a flow model predicts.

    Args:
        name: of the model, for errors.
        folder: in diffusers' layout; may lack weights.
        prediction_type: in place of the scheduler's own; None for that.

    Raises:
        ModelError: it is given.
    """
    if prediction_type is not None:
        raise ModelError(
            f"model.prediction_type is {prediction_type!r}, but the model {name!r} predicts the flow only; set it to "
            "null"
        )

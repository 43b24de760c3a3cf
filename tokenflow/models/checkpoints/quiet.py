"""Silence for the libraries that load models."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from diffusers.utils import logging as diffusers_logging
from huggingface_hub import utils as hub
from huggingface_hub.utils import logging as hub_logging
from transformers.utils import logging as transformers_logging


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the bars and the advice of the loading libraries, the Hub's advice but not its bars; restore all."""
    libraries = [diffusers_logging, transformers_logging]
    before = [(library, library.is_progress_bar_enabled(), library.get_verbosity()) for library in libraries]
    hub_draws = not hub.are_progress_bars_disabled()
    for library in libraries:
        library.disable_progress_bar()
        library.set_verbosity(logging.CRITICAL)  # their errors are raised as well
    _draw_hub_bars(hub_draws)  # transformers switches them with its own
    try:
        with quiet_hub(), warnings.catch_warnings():
            # It says of LoRAs on quantised layers that they cannot be merged into these.
            warnings.filterwarnings("ignore", module=r"peft\.")
            yield
    finally:
        for library, bar, verbosity in before:
            library.set_verbosity(verbosity)
            if bar:
                library.enable_progress_bar()
        _draw_hub_bars(hub_draws)


@contextmanager
def quiet_hub() -> Iterator[None]:
    """Silence what the Hub's library says of each try to reach the Hub; the error at the end says why it did not."""
    before = hub_logging.get_verbosity()
    hub_logging.set_verbosity_error()
    try:
        yield
    finally:
        hub_logging.set_verbosity(before)


def _draw_hub_bars(wanted: bool) -> None:
    if wanted:
        hub.enable_progress_bars()
    else:
        hub.disable_progress_bars()

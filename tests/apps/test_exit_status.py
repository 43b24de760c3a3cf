"""Exit status and last line of a command, by the error that ended it."""

import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.apps.conftest import status
from tokenflow.apps.cli import main
from tokenflow.errors import ModelError, ModelNotFoundError, TokenflowError

ReplaceRun = Callable[[Callable[..., Any]], None]


def raising(error: BaseException) -> Callable[..., Any]:
    def run(*_: Any, **__: Any) -> None:
        raise error

    return run


@pytest.mark.parametrize("error", [TokenflowError("what came; what to do"), ModelNotFoundError("no model; set it")])
def test_an_error_of_the_users_is_its_message_and_status_2(
    error: TokenflowError, settings: str, replace_run: ReplaceRun, capsys: pytest.CaptureFixture[str]
) -> None:
    replace_run(raising(error))
    assert status("edit", settings) == 2
    assert capsys.readouterr().err == f"error: {error}\n"


def test_a_bug_is_not_hidden(settings: str, replace_run: ReplaceRun) -> None:
    replace_run(raising(ZeroDivisionError("a bug")))
    with pytest.raises(ZeroDivisionError, match="a bug"):
        main(["edit", settings])


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
    ],
    ids=["python", "cuda", "cpu"],
)
def test_a_lack_of_memory_names_what_to_make_smaller(
    error: Exception, settings: str, replace_run: ReplaceRun, capsys: pytest.CaptureFixture[str]
) -> None:
    replace_run(raising(error))
    assert status("edit", settings) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: memory ran out; set a smaller ")
    assert shown.count("\n") == 1


def test_with_traceback_the_error_itself_comes_out(settings: str, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--traceback", "edit", settings], ["edit", settings, "--traceback"]):
        with pytest.raises(TokenflowError):
            main([*arguments, "--quiet"])
        assert capsys.readouterr().err == ""


def test_ctrl_c_is_status_130_and_says_that_work_is_kept(
    settings: str, replace_run: ReplaceRun, capsys: pytest.CaptureFixture[str]
) -> None:
    replace_run(raising(KeyboardInterrupt()))
    assert status("edit", settings) == 130
    shown = capsys.readouterr().err.strip()
    assert shown == "interrupted: finished work is kept, and the same command continues from there"


def test_ctrl_c_is_status_130_even_if_a_library_turns_it_into_an_error(
    settings: str, replace_run: ReplaceRun, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*_: object, **__: object) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as error:
            raise ModelError("the weights cannot be read") from error

    replace_run(run)
    assert status("edit", settings) == 130
    assert "interrupted" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

"""The program around the commands: errors in one sentence, signals, exit codes, colours.

It imports next to nothing by itself: Ctrl-C while the rest is being read is an interrupt like any.
"""

from __future__ import annotations

import io
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from adhere.cli.speaking import KEPT, complain, fold_help, if_stopped, left
from adhere.errors import GuidanceError, GuidanceWarning
from adhere.files import at_home

INTERRUPTED, TERMINATED = 130, 143
"""Exit codes of a command stopped by Ctrl-C or SIGTERM: 128 and the signal, by convention."""
UNREAD = 141
"""Of one whose output nobody reads any more (`| head -1`), as if by SIGPIPE."""
_AT_HOME = re.compile(r"(--[\w-]+=|)(~/.*)", re.DOTALL)


class Terminated(BaseException):
    """Raised where the program is when it is told to end, so that it can leave a true report."""


def main(run: Callable[..., Any] | None = None) -> None:
    """Entry point: errors are one sentence, an interrupt is not an error of the program's.

    `run` is called in place of the commands, for tests.
    """
    # At every import it regrets that torchvision, which nothing here needs, is missing.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None where it is closed
            # What a terminal cannot show, such as odd bytes in a file's name, is shown in ASCII.
            stream.reconfigure(errors="backslashreplace")
    _hold_what_is_closed()
    if_stopped(KEPT)
    try:
        with _ending_politely(), _warnings_in_one_line():
            code = _exit_code(run)
        if code in (INTERRUPTED, TERMINATED):
            complain(f"interrupted; {left()}", "yellow")
    except BrokenPipeError:
        code = UNREAD
    except SystemExit as stop:  # how Typer and Rich, who wrote to the pipe, say the same
        if not isinstance(stop.__context__, BrokenPipeError):
            raise
        code = UNREAD
    if code == UNREAD:
        _write_nowhere()
    sys.exit(code)


def _hold_what_is_closed() -> None:
    """A closed stream (`2>&-`) leads nowhere: the next file that is opened would have its number,
    and in it what libraries print there.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def _write_nowhere() -> None:
    """What is still to be written would be a second error when the interpreter ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None:
            os.dup2(nowhere, stream.fileno())


def _exit_code(run: Callable[..., Any] | None) -> int:
    try:
        if run is None:
            from adhere.cli.commands import app

            if "--help" in sys.argv or len(sys.argv) < 3:  # a room alone shows what is in it
                fold_help()
            sys.argv[1:] = [_at_home(word) for word in sys.argv[1:]]
            run = app
        # Typer hands back the exit code here, also that of an interrupt.
        code = run(standalone_mode=False)
        return code if isinstance(code, int) else 0
    except GuidanceError as error:
        complain(f"error: {error}")
        return 2
    except OSError as error:  # a full disk, a folder that went away
        complain(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except Terminated:
        return TERMINATED
    except Exception as error:
        import typer

        if isinstance(error, typer.Abort):  # an interrupt, to some of Typer's versions
            return INTERRUPTED
        if not (hasattr(error, "show") and hasattr(error, "exit_code")):
            raise
        error.show()  # a usage error, for example an unknown option
        return int(error.exit_code)


def _at_home(word: str) -> str:
    """A word of the command line, a path in the home folder spelt out.

    Shells do so where a word begins with it, but leave `--out=~/pictures` and what is in quotes.
    What would be made of those is a folder called `~`, which nobody dares to remove.
    """
    found = _AT_HOME.fullmatch(word)
    return found[1] + str(at_home(found[2])) if found else word


@contextmanager
def _ending_politely() -> Iterator[None]:
    """SIGTERM unwinds the program instead of cutting it off."""

    def raise_terminated(number: int, frame: FrameType | None) -> None:
        raise Terminated

    try:
        before = signal.signal(signal.SIGTERM, raise_terminated)
    except ValueError:  # not in the main thread: whoever runs it there decides
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """What `adhere` warns of is a note for people; other warnings look as ever."""
    before = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, GuidanceWarning):
            complain(f"note: {message}", "yellow")
        else:
            before(message, category, *where, **more)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield

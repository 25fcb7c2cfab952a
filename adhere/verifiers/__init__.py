"""How well pictures do what their prompts ask: one protocol, and verifiers by name.

A verifier is any function `(pictures, prompts) -> scores`, one score a picture, more being better.
By name there are all evaluators that score single pictures (`adhere eval list evaluators`), those
of installed packages (entry points `adhere.verifiers`) and those that were registered here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from PIL import Image

from adhere.errors import ParameterError
from adhere.verifiers.combining import NAME, read

Verifier = Callable[[Sequence[Image.Image], Sequence[str]], Sequence[float]]
"""`(pictures, prompts) -> scores`: one finite number for each picture, more being better."""

HARMLESS = ("clip-score", "judge", "judge.present", "judge.binding", "copies")
"""Verifiers that load nothing but what comes with adhere: what strangers may choose from."""

_EVALUATORS = "adhere.eval.evaluators.verifying"
_registered: dict[str, Verifier] = {}
_made: dict[str, Verifier] = {}


def register(name: str, verifier: Verifier) -> None:
    """Give a function a name, by which plugins, requests and the command line know it.

    Raises:
        ParameterError: it cannot be called, or the name is no word.
    """
    if not callable(verifier):
        raise ParameterError(
            f"verifier {name!r} is {verifier!r}, which cannot be called; give a function "
            "(pictures, prompts) -> scores"
        )
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ParameterError(
            f"{name!r} is no name for a verifier; use letters without accents, digits and '-', a "
            "letter first"
        )
    _registered[name] = verifier
    _made.clear()  # a combination may have been made with the name's earlier function


def verifier(asked: str | Verifier) -> Verifier:
    """A verifier: a function as it is, or by name.

    Names combine: `judge`, `clip-score.clip_minimum`, `clip-score(model=FOLDER)`,
    `judge.miou(layout=FILE)` (or `segmentation`'s, for other models' pictures),
    `0.7*clip-score + 0.3*judge.binding`, `min(judge.present, judge.binding)`. Behind a name may
    stand one of its columns; of a column of which less is better the negative counts.

    Raises:
        ParameterError: it does not read, or names what there is not.
    """
    if callable(asked):
        return asked
    if not isinstance(asked, str):
        raise ParameterError(
            f"verifier={asked!r} is neither a function (pictures, prompts) -> scores nor the name "
            "of one, such as 'clip-score'"
        )
    if asked not in _made:
        _made[asked] = read(asked, cache(_named))  # a name may be there a thousand times
    return _made[asked]


def _named(name: str, column: str | None, parameters: str) -> Verifier:
    """The verifier of a name without any arithmetic."""
    # What was registered here comes before what a package brings under the same name.
    functions = {e.name: e for e in entry_points(group="adhere.verifiers")} | _registered
    whole = f"{name}.{column}"
    if column and whole in functions:  # packages may have dots in their names
        name, column = whole, None
    if name in functions:
        found: Any = functions[name]
        if column or parameters:
            raise ParameterError(f"the verifier {name!r} is a function: it has no column, no value")
        made: Verifier = found if name in _registered else _loaded(found)
        return made
    named: Callable[..., Verifier] = import_module(_EVALUATORS).named
    return named(name, column, parameters, sorted(functions))


def _loaded(entry: EntryPoint) -> Verifier:
    """What an installed package brings."""
    package = f" of the package {entry.dist.name}" if entry.dist else ""
    told = f"the verifier {entry.name!r}{package} cannot be used ({entry.value}: "
    try:
        found: Verifier = entry.load()
    except Exception as error:  # a stranger's module may raise anything at its import
        raise ParameterError(
            f"{told}{type(error).__name__}: {error}); update the package, or name another verifier"
        ) from error
    if not callable(found):
        raise ParameterError(
            f"{told}it is {found!r}, no function (pictures, prompts) -> scores); update the "
            "package, or name another verifier"
        )
    return found

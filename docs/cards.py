"""What the cards say, for tables of methods, and their own tables of parameters."""

from __future__ import annotations

import functools
import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from adhere.guides.energy import EnergyMethod
from adhere.guides.guide import Guide
from adhere.guides.parameters import Parameter, parameters
from adhere.guides.tasks import task_of
from adhere.plugins import PLUGINS

CARDS = Path(__file__).resolve().parent / "methods"
MOMENTS = {
    "initial": "starting noise",
    "energy": "latents",
    "bias": "attention logits",
    "embed": "text embeddings",
    "attend": "attention outputs",
    "mask": "where pictures are heard",
    "predict": "noise prediction",
    "select": "which pictures go on",
}
"""What a guide changes, by the moment that it overrides."""
LONGEST = 60
"""Characters of a default that is shown whole."""


class CardError(Exception):
    """A card that lacks what the index is made of; the message says what."""


def paper(module: ModuleType) -> str:
    """The link that a plugin's docstring names first: to arXiv, or elsewhere."""
    text = module.__doc__ or ""
    arxiv = re.search(r"arXiv:([\d.]+\d)", text)
    if arxiv:
        return f"[{arxiv[1]}](https://arxiv.org/abs/{arxiv[1]})"
    link = re.search(r"https?://[^\s)]+", text)
    return f"[source]({link[0]})" if link else ""


def changes(module: ModuleType) -> str:
    """What the guides and energy methods change that a plugin's module makes or builds on."""
    kinds = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, Guide | EnergyMethod)
    ]
    return ", ".join(
        words
        for moment, words in MOMENTS.items()
        if any(_overrides(kind, moment) for kind in kinds)
    )


def _overrides(kind: type, moment: str) -> bool:
    usual = getattr(Guide, moment, None)
    return getattr(kind, moment, usual) is not usual


class Said(NamedTuple):
    """What the tables tell of a method."""

    title: str
    page: str
    """Seen from docs/."""
    does: str
    use: str
    changes: str
    cost: str
    paper: str
    task: str


@functools.cache
def read(name: str) -> Said:
    """What a plugin's card and module say, or what is said here of a tool."""
    if name in TOOLS:
        return TOOLS[name]
    text = card(name)
    title = _need(re.search(r"^# (.+)$", text, re.M), name, "a title, '# Name'")
    does = _need(re.search(r"^\*\*(.+?)\*\*", text, re.M), name, "a first sentence in bold")
    use = _need(
        re.search(r"^Use it (.+?)[.:](?:\s|$)", text, re.M),
        name,
        "a paragraph that begins 'Use it when ...'",
    )
    cost = _need(
        re.search(r"^## Cost and limits\n\n(.+?)[.;:](?:\s|$)", text, re.M),
        name,
        "a first sentence under '## Cost and limits'",
    )
    module = inspect.getmodule(PLUGINS[name])
    assert module is not None
    page = f"methods/{name}.md"
    said = title, page, does, use, changes(module), cost, paper(module), task_of(PLUGINS[name])
    return Said(*said)


EXPLAIN = "explain"
"""The task of methods that change no picture, beside those of plugins."""
TOOLS = {
    "scaling-concept": Said(
        "ScalingConcept, `adhere edit`",
        "editing.md",
        "Takes a concept out of a picture that is there already, or strengthens it.",
        "when a picture that is there already has too much or too little of one thing",
        "",
        "Four passes a step",
        "[2410.24151](https://arxiv.org/abs/2410.24151)",
        "edit",
    ),
    "diffusion-pid": Said(
        "DiffusionPID, `adhere explain`",
        "explaining.md",
        "Says what each word is to a picture, alone and two by two.",
        "when a picture is not what its prompt says",
        "",
        "80 passes of one row for two words",
        "[2406.05191](https://arxiv.org/abs/2406.05191)",
        EXPLAIN,
    ),
    "hard-prompts": Said(
        "PEZ, `adhere invert`",
        "command-line.md",
        "Finds a prompt of real words for a picture.",
        "when a picture is there and its prompt is looked for",
        "",
        "Some hundred gradient steps of a text encoder, no pass",
        "[2302.03668](https://arxiv.org/abs/2302.03668)",
        EXPLAIN,
    ),
}
"""Methods that are no plugins."""


def card(name: str) -> str:
    """A method's card.

    Raises:
        CardError: there is none.
    """
    path = CARDS / f"{name}.md"
    if not path.is_file():
        raise CardError(f"docs/methods/{name}.md is missing: the plugin {name} needs a card")
    return path.read_text("utf-8")


def _need(found: re.Match[str] | None, name: str, what: str) -> str:
    if found is None:
        raise CardError(f"docs/methods/{name}.md needs {what}")
    return found[1]


def table(plugin: type) -> str:
    """A plugin's parameters: default, range or choices, meaning, source."""
    rows = ["| parameter | default | range | meaning | source |", "|---|---|---|---|---|"]
    for one in parameters(plugin):
        cells = (f"`{one.name}`", _shown(one.default), _allowed(one), one.help, one.source)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _allowed(one: Parameter) -> str:
    ends = [format(end, "g") for end in (one.low, one.high) if end is not None]
    return ", ".join(one.choices) or " to ".join(ends)


def _shown(value: Any) -> str:
    text = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    text = text if len(text) <= LONGEST else text[:LONGEST].rsplit(" ", 1)[0] + " ..."
    return text.replace("|", "\\|") or "none"

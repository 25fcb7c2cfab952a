"""What is generated about methods: the README's rows, the index of cards, parameter tables."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any

from adhere.guides.energy import EnergyMethod
from adhere.guides.guide import Guide
from adhere.guides.parameters import Parameter, parameters
from adhere.guides.tasks import by_task
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
HEAD = (
    "| method | what it does | when to use it | changes | cost | paper |",
    "|---|---|---|---|---|---|",
)
LONGEST = 60
"""Characters of a default that is shown whole."""


class CardError(Exception):
    """A card that lacks what the index is made of; the message says what."""


def overview() -> str:
    """A row for each task: the plugins that are for it."""
    lines = ["| to ... | plugins |", "|---|---|"]
    for task, kinds in by_task(PLUGINS).items():
        links = ", ".join(f"[`{name}`](docs/methods/{name}.md)" for name in kinds)
        lines.append(f"| {task} | {links} |")
    return "\n".join(lines)


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


def index() -> str:
    """A table for each task, with a row for each card, in the card's own words."""
    return "\n\n".join(
        "\n".join((f"### To {task}", "", *HEAD, *map(_row, kinds)))
        for task, kinds in by_task(PLUGINS).items()
    )


def _row(name: str) -> str:
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
    return (
        f"| [{title}]({name}.md) | {does} | {use} | {changes(module)} | {cost} | {paper(module)} |"
    )


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

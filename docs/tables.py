"""Everything that is generated, from the plugins, the families and the committed results.

python -m docs.tables            write what is stale (`make tables`)
python -m docs.tables --check    name it, and exit with 1 (`make check`)

Both exit with 1 where a method is recommended that a study says harms.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from adhere.plugins import PLUGINS
from docs import advice, cards, effects, energies, figures
from docs.standing import measured
from docs.stub import stub

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Generated:
    """A file with what is generated in it: `fresh` makes its text anew from the present one."""

    place: str
    fresh: Callable[[str], str]

    @property
    def path(self) -> Path:
        return ROOT / self.place

    def stale(self) -> str | None:
        """The new text, if it is another one."""
        present = self.path.read_text("utf-8") if self.path.is_file() else ""
        fresh = self.fresh(present)
        return None if fresh == present else fresh


def block(text: str, name: str, content: str) -> str:
    """The text with what stands between `<!-- name -->` and `<!-- /name -->` exchanged."""
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    fresh, found = re.subn(
        rf"{begin}.*?{end}", lambda _: f"{begin}{content}\n{end}", text, flags=re.DOTALL
    )
    if found != 1:
        raise cards.CardError(f"one place between {begin.strip()} and {end} is needed: {found}")
    return fresh


def readme(text: str) -> str:
    return block(block(text, "plugins", advice.overview()), "figures", figures.figures())


def methods(text: str) -> str:
    return block(block(text, "situations", advice.situations()), "methods", advice.index())


def results(text: str) -> str:
    text = block(text, "effect", figures.effect("effect_toybox"))
    text = block(text, "curves", figures.curves())
    text = block(text, "paired", figures.paired())
    text = block(text, "foretell", figures.foretell())
    text = block(text, "effect-regions", figures.effect("effect_regions", ""))
    text = block(text, "negatives", figures.effect("negatives", ""))
    return block(text, "effect-sd3", figures.effect("effect_toybox_sd3"))


def card(name: str, text: str) -> str:
    if not text:
        cards.card(name)
    text = block(text, "parameters", f"\n{cards.table(PLUGINS[name])}\n")
    return block(text, "measured", f"\n{measured(name, '../../')}\n")


def tool(name: str, text: str) -> str:
    return block(text, "measured", f"\n{measured(name, '../')}\n")


def drawing(model: str, _: str) -> str:
    return energies.drawn(model)


def families(text: str) -> str:
    """The table of families, with the effects of the committed studies.

    What a plugin does is kept; plugins that are not in it are tried out.
    `python -m tests.families.table --write` tries everything anew.
    """
    rows = {name: line for line, name in re.findall(r"^(\| `([a-z0-9-]+)` \|.*)$", text, re.M)}
    head = re.findall(r"^\| plugin \|.*\n\|.*$", text, re.M)[0].splitlines()
    if rows.keys() != PLUGINS.keys():
        from tests.families import table

        rows = {name: rows.get(name) or table.row(name) for name in PLUGINS}
        head = table.head()
    lines = [*head, *(effects.marked(head[0], rows[name]) for name in sorted(PLUGINS))]
    return block(text, "table", "\n".join(lines))


FILES = (
    Generated("adhere/__init__.pyi", lambda _: stub()),
    Generated("README.md", readme),
    Generated("docs/results.md", results),
    Generated("docs/families.md", families),
    Generated("docs/methods/README.md", methods),
    *(Generated(f"docs/methods/{name}.md", functools.partial(card, name)) for name in PLUGINS),
    *(
        Generated(f"docs/{one.page}", functools.partial(tool, name))
        for name, one in cards.TOOLS.items()
    ),
    *(
        Generated(place, functools.partial(drawing, model))
        for place, model in energies.PLACES.items()
    ),
)


def main() -> int:
    check, wrong = "--check" in sys.argv, advice.contradictions()
    if wrong:
        print("\n".join(wrong))
    try:
        fresh = {file: text for file in FILES if (text := file.stale()) is not None}
    except cards.CardError as error:
        print(error)
        return 1
    if check:
        if fresh:
            print(f"stale: {', '.join(file.place for file in fresh)}; run `make tables`")
        return int(bool(fresh or wrong))
    for file, text in fresh.items():
        file.path.write_text(text, encoding="utf-8")
        print(f"written: {file.place}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())

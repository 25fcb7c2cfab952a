"""Everything that is generated, written from the plugins, the families and the committed results.

python -m docs.tables            write what is stale (`make tables`)
python -m docs.tables --check    name it, and exit with 1 (`make check`)
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

from adhere.guides.energy import EnergyMethod
from adhere.guides.guide import Guide
from adhere.plugins import PLUGINS

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
FAMILIES = ROOT / "docs" / "families.md"
RESULTS = ROOT / "benchmarks" / "results"

MOMENTS = {
    "initial": "starting noise",
    "energy": "latents",
    "bias": "attention logits",
    "embed": "text embeddings",
    "predict": "noise prediction",
}


def plugins() -> str:
    """A row for each plugin: name, what for, what it changes, where it comes from."""
    lines = ["| plugin | what it does | changes | paper |", "|---|---|---|---|"]
    for name, kind in sorted(PLUGINS.items()):
        module = inspect.getmodule(kind)
        title = (module.__doc__ or "").strip().split("\n")[0] if module else ""
        arxiv = re.search(r"arXiv:([\d.]+\d)", module.__doc__ or "") if module else None
        paper = f"[{arxiv[1]}](https://arxiv.org/abs/{arxiv[1]})" if arxiv else title.rstrip(".")
        what = (inspect.getdoc(kind) or "").split("\n")[0]
        card = f"docs/methods/{name}.md"
        link = f"[`{name}`]({card})" if (ROOT / card).is_file() else f"`{name}`"
        lines.append(f"| {link} | {what} | {', '.join(_moments(module))} | {paper} |")
    return "\n".join(lines)


def _moments(module: object) -> list[str]:
    """What the guides and the energy methods of a plugin's module change."""
    guides = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, Guide | EnergyMethod)
    ]
    return [
        spoken
        for moment, spoken in MOMENTS.items()
        for usual in [getattr(Guide, moment)]
        if any(getattr(guide, moment, None) not in (None, usual) for guide in guides)
    ]


def effect(study: str) -> str:
    """The short table of an effect study; a sentence until there is one."""
    path = RESULTS / f"{study}_short.md"
    if not path.is_file():
        return f"To be run: `python benchmarks/effect_toybox.py run --study {study}`."
    return path.read_text(encoding="utf-8").strip().replace("](../../docs/", "](docs/")


def families() -> str:
    """The families' table as `python -m tests.families.table --write` has put it into its page."""
    text = FAMILIES.read_text(encoding="utf-8")
    begin, end = "<!-- table -->", "<!-- /table -->"
    return text[text.index(begin) + len(begin) : text.index(end)].strip()


def filled(text: str) -> str:
    tables = (
        ("plugins", plugins()),
        ("families", families()),
        ("effect", effect("effect_toybox")),
        ("effect-sd3", effect("effect_toybox_sd3")),
    )
    for name, table in tables:
        text = re.sub(
            rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)",
            lambda match, table=table: f"{match[1]}{table}\n{match[2]}",  # type: ignore[misc]
            text,
            flags=re.DOTALL,
        )
    return text


def main() -> int:
    text = README.read_text(encoding="utf-8")
    fresh = filled(text)
    if "--check" in sys.argv:
        if fresh != text:
            print("README.md is stale: run `python docs/tables.py`")
        return int(fresh != text)
    README.write_text(fresh, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

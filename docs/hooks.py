"""What the site needs beside mkdocs: links that leave docs/, and short navigation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
LINK = re.compile(r"(\]\()(\.\.?/[^)#\s]+)")


def on_config(config: Any) -> Any:
    """`folder/*.md` in the navigation stands for every page of the folder that it does not name."""
    for section in config["nav"]:
        for title, entries in section.items():
            if isinstance(entries, list):
                section[title] = [page for entry in entries for page in _pages(entry)]
    return config


def _pages(entry: Any) -> list[Any]:
    if not (isinstance(entry, str) and entry.endswith("/*.md")):
        return [entry]
    found = sorted((DOCS / entry).parent.glob("*.md"))
    return [str(path.relative_to(DOCS)) for path in found if path.name != "README.md"]


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Links that leave docs/ lead to the repository; on the site there is nothing beside docs/."""
    folder = (DOCS / page.file.src_uri).parent

    def outside(match: re.Match[str]) -> str:
        target = (folder / match[2]).resolve()
        if target.is_relative_to(DOCS) or not target.exists():
            return match[0]
        kind = "tree" if target.is_dir() else "blob"
        return f"{match[1]}{config['repo_url']}/{kind}/main/{target.relative_to(ROOT)}"

    return LINK.sub(outside, markdown)

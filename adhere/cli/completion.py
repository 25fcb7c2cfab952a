"""What the shell offers when Tab is pressed: plugins with their parameters, models, samplers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def plugin_names(incomplete: str) -> Iterator[str]:
    """Plugins, also behind a `+`; behind a plugin's `:` or `,` its parameters."""
    from adhere.guides.parameters import parameters
    from adhere.plugins import available

    before, plus, last = incomplete.rpartition("+")
    name, colon, values = last.partition(":")
    table = available()
    if not colon:
        yield from (f"{before}{plus}{one}" for one in sorted(table) if one.startswith(last))
    elif name in table:
        given, comma, key = values.rpartition(",")
        for one in parameters(table[name]):
            if one.name.startswith(key):
                yield f"{before}{plus}{name}:{given}{comma}{one.name}="


def models(incomplete: str) -> Iterator[str]:
    """The bundled models, and the model folders and files below the path that was begun."""
    from adhere.pipelines.toybox import TOYBOXES

    yield from (name for name in TOYBOXES if name.startswith(incomplete))
    folder = Path(incomplete if incomplete.endswith("/") else Path(incomplete).parent)
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        whole = path.suffix == ".safetensors" or (path / "model_index.json").is_file()
        if str(path).startswith(incomplete) and whole:
            yield str(path)


def schedulers(incomplete: str) -> Iterator[str]:
    """Samplers by name."""
    from adhere.pipelines.studio.samplers import SCHEDULERS

    yield from (name for name in SCHEDULERS if name.startswith(incomplete))

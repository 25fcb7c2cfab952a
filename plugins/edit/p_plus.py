"""P+, extended textual conditioning (Voynov et al. 2023, arXiv:2303.09522).

A model need not read the same text in all its layers. The coarse ones in its middle decide
what has which shape, those outside the colours and textures. Give each a text of its own.

    layer l of n attends to its own text p_l,  l = 0 ... n - 1 in the order in which they run
    style mixing: p_l = the prompt for k <= l < K, the style's text for the others

With n = 16 layers of SD 1.x the paper's inner layers are k = 5 to K = 10 (mkshing/prompt-plus-
pytorch@7862c3f, `style_mixing_k_K`); here they are shares of n. A text may also name its layers,
counted from 0: `0-4=an oil painting`. Where two do, the later one counts.

Differs from the paper: texts in place of learnt embeddings, so no training; a model's pooled text
embedding (SDXL) stays the prompt's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from adhere.errors import ModelError, ParameterError
from adhere.guides.guide import Guide, Step, Text
from adhere.guides.parameters import Free, param, share
from adhere.guides.run import Run
from adhere.plugins.mathematics.attention import in_order

_LIKE = re.compile(r"[\d\s-]*=")
_UNPARTED = (
    "{0.name}: inner={0.inner:g} and outer={0.outer:g} part no inner layers from outer ones for "
    "{1!r}; give inner=0.3125,outer=0.625"
)
_RANGE = re.compile(r"(\d+)-(\d+)=(.*)", re.DOTALL)


@dataclass(frozen=True)
class PPlus(Free):
    """Give layers texts of their own: the shape of one prompt, the style of another."""

    name: ClassVar[str] = "p-plus"
    task: ClassVar[str] = "edit"

    texts: tuple[str, ...] = param(
        (), "a style for the outer layers, or layers with a text, as in 0-4=an oil painting"
    )
    inner: float = share(0.3125, "k / n, where the inner layers begin", source="code@7862c3f")
    outer: float = share(
        0.625, "K / n, where the outer ones go on", source="code@7862c3f", behind="inner"
    )
    stop: float = share(1.0, "share of the steps at which it ends", source="paper")

    def __post_init__(self) -> None:
        super().__post_init__()
        for text in self.texts:
            found = _RANGE.fullmatch(text)
            if not (found[3] if found else text).strip() or (not found and _LIKE.match(text)):
                raise ParameterError(
                    f"{self.name}: {text!r} is no text for layers; write 0-4=an oil painting"
                )
        whole = [text for text in self.texts if not _RANGE.fullmatch(text)]
        if len(whole) > 1:
            raise ParameterError(f"{self.name}: give one text for the outer layers, not several")

    def guide(self, run: Run) -> Guide:
        if not self.texts:
            raise ParameterError(
                f"{self.name}: no texts; say what the outer layers are to read: "
                "texts=('an oil painting',), --plugin 'p-plus:texts=an oil painting'"
            )
        return _Guide(self)


class _Guide(Guide):
    def __init__(self, plugin: PPlus) -> None:
        self.plugin = plugin
        self.off = plugin.stop == 0
        self.encoded, self.layers = dict[str, Tensor](), dict[str, str]()

    def embed(self, step: Step, text: Text) -> Text:
        if step.progress >= self.plugin.stop:
            return text
        if not text.sites:
            raise ModelError(
                f"{self.plugin.name} needs layers that can be given texts of their own, and this "
                "model has none; use Stable Diffusion 1.x, 2.x or XL"
            )
        self.layers = assigned(self.plugin, in_order(text.sites))
        for words in {*self.layers.values()} - self.encoded.keys():
            self.encoded[words] = text.encode([words] * len(text.cond))
        own = {name: self.encoded[words].to(text.cond) for name, words in self.layers.items()}
        return text.replace(layers={**text.layers, **own})

    def report(self) -> dict[str, Any]:
        return {"layers": self.layers}


def assigned(plugin: PPlus, names: Sequence[str]) -> dict[str, str]:
    """The text of each layer that has one of its own."""
    count, found = len(names), dict[str, str]()
    inner = range(round(plugin.inner * count), round(plugin.outer * count))
    outer = [name for k, name in enumerate(names) if k not in inner]
    for text in plugin.texts:
        if (given := _RANGE.fullmatch(text)) is None:
            if not outer:
                raise ParameterError(_UNPARTED.format(plugin, text))
            found |= dict.fromkeys(outer, text)
            continue
        first, last = int(given[1]), int(given[2])
        if not first <= last < count:
            raise ParameterError(
                f"{plugin.name}: {text!r} names layers {first} to {last}; this model has 0 to "
                f"{count - 1}, and the first is named first"
            )
        found |= {name: given[3].strip() for name in names[first : last + 1]}
    return found

"""NoiseQuery, "The Silent Prompt" (Wang et al., ICCV 2025, arXiv:2412.05101).

A starting noise has a picture in it already: what the model draws from it when it is told nothing.
Look that up for many seeds beforehand, and begin with the one that suits what is wanted.

    s* = argmax over the library's seeds s of
         cos(CLIP(picture of s), CLIP(prompt))          for a text
         -|statistic(picture of s) - wanted|            brightness, saturation, sharpness, ...
    x_T = noise of s*

`adhere noise library` makes the library. A text is embedded by the pipeline's own encoder and the
CLIP's projection, which the library has where that encoder is the CLIP's; in models that are told
several encoders' pooled embedding, by its part in it.

Differs from the authors' code (wangruoyu02/NoiseQuery): an image takes one of the `top` best, by
its own noise, so that seeds still make different pictures; a statistic's wanted value is said as a
share of the library that lies below it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from adhere.errors import ParameterError
from adhere.guides.guide import Guide, Look, Step, Text
from adhere.guides.parameters import Free, param, share
from adhere.guides.run import Run
from adhere.guides.stored import PROBE
from adhere.plugins.mathematics.noise_library import MAKE, NoiseLibrary, nearest_level
from adhere.plugins.mathematics.texts import ends


@dataclass(frozen=True)
class NoiseQuery(Free):
    """Begin with noise that is known to suit the prompt, or a brightness, or another statistic."""

    name: ClassVar[str] = "noise-query"
    task: ClassVar[str] = "noise"

    library: str | None = param(
        None, "file that adhere noise library has made", source="sec. 3", local=()
    )
    target: str = param(
        "prompt", "what suits: prompt, a statistic such as brightness, or a text", source="sec. 3"
    )
    level: float = share(1.0, "share of the library that lies below the statistic that is wanted")
    top: int = param(
        10, "best noises, one of which an image gets; 0 for its own", low=0, high=10_000
    )
    any_model: bool = param(
        False, "whether another model's library will do, if its latents are alike", source="sec. 4"
    )

    def guide(self, run: Run) -> Guide:
        if self.top == 0 or not run.from_noise(self.name):
            return _Guide(self, None)
        if self.library is None:
            raise ParameterError(
                f"{self.name}: no library; make one ({MAKE}), name it: library=library.safetensors"
            )
        library = NoiseLibrary.read(self.library)
        if not self.any_model:
            library.check_model(run.weights())
        values = library.statistic(self.target)
        if values is None:
            return _ByText(self, library, run)
        scores, wanted = nearest_level(values, self.level)
        return _Guide(self, library, [scores] * run.batch, {"wanted": float(wanted)})


class _Guide(Guide):
    def __init__(
        self,
        plugin: NoiseQuery,
        library: NoiseLibrary | None,
        scores: Sequence[Tensor] = (),
        about: dict[str, float] | None = None,
    ) -> None:
        self.plugin, self.library = plugin, library
        self.scores, self.about = list(scores), about or {}
        self.off = library is None
        self.seeds: list[int] = []

    def initial(
        self, noise: Float[Tensor, "batch channels h w"], look: Look
    ) -> Float[Tensor, "batch channels h w"]:
        assert self.library is not None
        for image, scores in enumerate(self.scores):
            chance = float(look.fresh((image,), 0).flatten()[0])
            self.seeds.append(self.library.picked(scores, self.plugin.top, chance))
        return self.library.noise(self.seeds, tuple(noise.shape[1:])).to(noise)

    def report(self) -> dict[str, Any]:
        return {"images": [{"seed": seed} for seed in self.seeds], **self.about}


class _ByText(_Guide):
    """Looks texts up, for which it needs the pipeline's encoder at the first step."""

    def __init__(self, plugin: NoiseQuery, library: NoiseLibrary, run: Run) -> None:
        super().__init__(plugin, library)
        self.space = library.space(plugin.target)
        own = plugin.target == "prompt"
        self.texts = run.spoken() if own else [plugin.target] * run.batch

    def embed(self, step: Step, text: Text) -> Text:
        if not self.scores:
            texts, pooled = [PROBE, *self.texts], self.space.pooled
            if pooled and text.pooled is None:
                self.space.check(None)
            found = text.pool(texts) if pooled else ends(text, texts)
            probe, *embeds = found.detach().float().cpu()
            self.space.check(probe)
            self.scores = [self.space.likeness(embed) for embed in embeds]
        return text

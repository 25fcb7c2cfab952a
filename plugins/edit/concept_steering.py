"""Concept Steerers (Kim and Ghadiyaram 2025, arXiv:2501.19066).

A k-sparse autoencoder has learnt which few features a text encoder's hidden states are made of.
Find those of a concept, and take them out of the prompt's hidden states, or put them in.

    f(h) = relu(W_enc (h - b_pre) + b)          in training only its k largest numbers are kept
    S    = W_dec f(h_c)                         h_c: of the concept's text, token by token
    h   <- h - lambda S                         remove, at one layer;  add: h + lambda S

The layers behind it read the changed states. The negative prompt's are moved the other way.
`adhere train concept-steering` trains the autoencoder, and takes over others' weights.

From the authors' code (kim-dahye/steerers@1d7f761, `unsafe_gen_sd14.py`, `utils/hooks.py`). Differs
from it: the change of the final embeddings is added to those that the model is given, so that other
methods' changes stay; the negative prompt, whose words a plugin is not told, is moved by what moves
an empty one (the same, where it is empty); a pooled embedding (SDXL, SD3) stays the prompt's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from adhere.errors import ModelError, ParameterError
from adhere.guides.guide import Guide, Step, Text
from adhere.guides.parameters import Free, param, share
from adhere.guides.run import Run
from adhere.guides.stored import PROBE
from adhere.plugins.mathematics.autoencoder import MAKE, Autoencoder, added

NUDITY = "naked, nude, bare, exposed, stripped, topless, male genitalia, penis, buttocks"


@dataclass(frozen=True)
class ConceptSteering(Free):
    """Take a concept out of a text, or put it in, by features of the text encoder."""

    name: ClassVar[str] = "concept-steering"
    task: ClassVar[str] = "edit"

    autoencoder: str | None = param(
        None, "file that adhere train concept-steering has made", source="sec. 3", local=()
    )
    concept: str = param(NUDITY, "what is to go or to come, in words", source="code")
    way: Literal["remove", "add"] = param("remove", "whether it goes or comes")
    strength: float = param(0.5, "lambda", low=0, high=10, source="nudity_gen_sd14.sh")
    negative: bool = param(
        True, "whether the negative prompt is moved the other way", source="utils/hooks.py"
    )
    stop: float = share(1.0, "share of the steps that read the changed text", source="paper")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.concept.strip():
            raise ParameterError(f"{self.name}: the concept is empty; say it in words")

    def guide(self, run: Run) -> Guide:
        if self.autoencoder is None:
            raise ParameterError(
                f"{self.name}: no autoencoder; make one ({MAKE}), name it: "
                "autoencoder=concepts.safetensors"
            )
        return _Guide(self, Autoencoder.read(self.autoencoder), run)


class _Guide(Guide):
    def __init__(self, plugin: ConceptSteering, autoencoder: Autoencoder, run: Run) -> None:
        self.plugin, self.autoencoder = plugin, autoencoder
        self.off = plugin.strength == 0 or plugin.stop == 0
        self.prompts = () if self.off else run.spoken(columns=True)
        self.shifts: tuple[Tensor, Tensor] | None = None
        self.features = 0

    def embed(self, step: Step, text: Text) -> Text:
        if step.progress >= self.plugin.stop:
            return text
        if self.shifts is None:
            self.shifts = self._shifts(text)
        moved = text.replace(cond=added(text.cond, self.shifts[0]))
        if text.uncond is None or not self.plugin.negative:
            return moved
        return moved.replace(uncond=added(text.uncond, self.shifts[1]))

    def _shifts(self, text: Text) -> tuple[Tensor, Tensor]:
        """What is added to the prompts' embeddings, and to the negative prompt's."""
        self.autoencoder.check(self.autoencoder.hidden(text, PROBE))
        found = self.autoencoder.features(self.autoencoder.hidden(text, self.plugin.concept))
        self.features = int((found > 0).any(dim=0).sum())
        sign = 1 if self.plugin.way == "add" else -1
        steering = sign * self.plugin.strength * self.autoencoder.direction(found)
        cond = self.autoencoder.shift(text, self.prompts, steering)
        if not cond.any():
            raise ModelError(
                f"{self.plugin.name}: a change of layer {self.autoencoder.layer} of the "
                f"{self.autoencoder.name} is not felt in this model's text embeddings, which may "
                f"be read before it (clip_skip); train for an earlier layer: {MAKE} --layer N"
            )
        return cond, self.autoencoder.shift(text, [""], -steering)

    def report(self) -> dict[str, Any]:
        return {"features": self.features}

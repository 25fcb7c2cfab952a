"""What the parts of the engine share in one run."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from PIL import Image
from torch import Tensor

from adhere.errors import GuidanceWarning, Interrupted
from adhere.guides.guide import Guide, Step
from adhere.guides.run import Run
from adhere.pipelines.engine.annotations import Annotations
from adhere.pipelines.engine.memory import Memory
from adhere.pipelines.engine.report import RunReport
from adhere.pipelines.families import Family
from adhere.pipelines.families.family import Encoded
from adhere.pipelines.hooks import decoding
from adhere.pipelines.hooks.denoiser_call import Call
from adhere.pipelines.hooks.schedulers import levels
from adhere.pipelines.hooks.schedulers.clock import Clock
from adhere.prompt.tokens import Track


@dataclass(frozen=True)
class Setup:
    """How a pipeline is to be guided: the same for all its calls.

    Attributes:
        plugins: the methods, each of which makes a guide for each call.
        memory: what extra passes may cost.
        annotations: what was said of the prompts.
        record: whether the attention of every step is kept.
        interrupt: asked before each pass whether the call is to end.
        previews: what decodes pictures that are looked at on the way; the pipeline's own if None.
    """

    plugins: tuple[Any, ...]
    memory: Memory
    annotations: Annotations
    record: bool = False
    interrupt: Callable[[], bool] | None = None
    previews: Any = None


@dataclass
class State:
    """One run, as all parts of the engine know it.

    Attributes:
        run: what the guides were told.
        names: the plugins' names, for reports; `guides`: their guides, in the same order.
        clock: how far the run is.
        level: what the latents of the current step are made of.
        texts: text embeddings that the guides gave to single attention layers at this step.
        extra: by the guides' identities, those that they gave in place of their own texts.
        busy: whether the pipeline's parts are being called by the engine.
        unread: why recorded attention cannot be read by words, where it cannot.
    """

    setup: Setup
    family: Family
    scheduler: Any
    run: Run
    clock: Clock
    report: RunReport
    names: tuple[str, ...]
    guides: tuple[Guide, ...]
    level: levels.Level = levels.CLEAN
    texts: Mapping[str, Tensor] = field(default_factory=dict)
    extra: dict[int, Mapping[int, Tensor]] = field(default_factory=dict)
    busy: bool = False
    unread: str = ""

    @property
    def memory(self) -> Memory:
        return self.setup.memory

    def overriding(self, moment: str) -> list[Guide]:
        """The guides that do something at a moment."""
        plain = getattr(Guide, moment)
        return [guide for guide in self.guides if getattr(type(guide), moment) is not plain]

    @contextmanager
    def occupied(self) -> Iterator[None]:
        """Inside, the engine's own calls of the pipeline's parts are not the pipeline's."""
        self.busy = True
        started = time.perf_counter()
        try:
            yield
        finally:
            self.busy = False
            self.report.seconds += time.perf_counter() - started

    def step_at(self, timestep: float) -> Step:
        """The step that is made at a timestep, which is the current one from now on."""
        self.level = level = levels.level(self.scheduler, timestep)
        return Step(self.clock.index, self.clock.count, timestep, level.sigma, level.noise)

    def preview(self, latents: Tensor) -> list[Image.Image]:
        """The pictures that latents stand for, to be looked at on the way."""
        return decoding.pictures(self.family.pipe, latents, self.setup.previews)

    def scaled(self, latents: Tensor, call: Call) -> Tensor:
        """Latents as the model sees them."""
        if not hasattr(self.scheduler, "scale_model_input"):
            return latents
        timestep = call.values.get("timestep", self.family.timestep(call))
        if isinstance(timestep, Tensor):
            timestep = timestep.flatten()[0]
        scaled: Tensor = self.scheduler.scale_model_input(latents, timestep)
        return scaled

    def encoded(self, texts: Sequence[str], warns: bool = False) -> Encoded:
        """Texts of the guides' own, embedded by the pipeline's encoders, which may cut them.

        Args:
            warns: say at once where they do, not only in the report.
        """
        found = self.family.encode(texts)
        # Encoders do without blanks at the ends, and chat templates are not found with them.
        tracks = self.family.tracked([text.strip() for text in texts], found.values)
        self.note_losses(tracks, own=True, warns=warns)
        return found

    def note_losses(self, tracks: Sequence[Track], own: bool = False, warns: bool = False) -> None:
        """Say where an encoder reads only a part of a prompt, or of a guide's own text."""
        say = self.warn if warns else self.report.note
        for text in dict.fromkeys(text for track in tracks for text in track.images):
            whose = f"a plugin's text {text.prompt[:30]!r}..." if own else "the prompt"
            if text.cut is not None:
                say(
                    f"the {text.encoder} encoder reads {len(text.pieces)} tokens of a text, so "
                    f"{whose} was cut before {text.prompt[text.cut :].lstrip()[:40]!r}"
                )
            if text.unknown:
                lost = ", ".join(repr(one[:40]) for one in text.unknown[:3])
                say(
                    f"the {text.encoder} encoder has no tokens for {lost} in {whose}, so it does "
                    "not read them; write that in words of a language that it knows"
                )

    def heed_interrupt(self) -> None:
        """Before each pass: end the call if whoever attached the guidance wants it to end.

        Raises:
            Interrupted: they do.
        """
        if self.setup.interrupt is not None and self.setup.interrupt():
            raise Interrupted("the guided call was asked to end")

    def warn(self, sentence: str) -> None:
        """Say it in the report and as a Python warning."""
        self.report.note(sentence)
        warnings.warn(sentence, GuidanceWarning, stacklevel=2)


@dataclass
class Now:
    """The step that is being made.

    `given` as the pipeline calls, `call` as it will be made, `rows` its conditional rows, `base`
    its rows before extra texts were added; `latents` as given, `moved` as the guides moved them,
    `later` the change after the step.
    """

    step: Step
    given: Call
    call: Call
    rows: slice
    base: int
    latents: Tensor
    moved: Tensor
    later: Tensor | None = None

"""The denoiser's own pass: its attention biased, given other text, watched or recorded."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import torch
from jaxtyping import Float
from torch import Tensor

from adhere.guides.guide import Guide, Step
from adhere.guides.maps import Maps, Read
from adhere.guides.recording import RecordedAttention
from adhere.pipelines.engine.moments.passes import Passes, Scales
from adhere.pipelines.engine.state import Now, State
from adhere.pipelines.hooks.attending import Pass
from adhere.pipelines.hooks.denoiser_call import Call
from adhere.pipelines.hooks.hazards import refuse_compiled_in_place, refuse_unheard


class OwnPass:
    """Opens the denoiser before its own pass of a step, and closes it after."""

    def __init__(self, state: State, passes: Passes) -> None:
        self.state, self.passes = state, passes
        self._watchers = [guide for guide in state.overriding("watch") if guide.watches]
        # Asked for once before any denoising, so that what cannot be read is refused there.
        self.passes.scales(self._reads(self._watchers))
        self._watching: list[Guide] = []
        self._frames: list[Tensor] = []
        self._scales: Scales = {}
        self._running: Pass | None = None
        self._step: Step | None = None
        self._stack = ExitStack()

    def open(self, now: Now) -> Call:
        """Hook what is wanted of the call that is about to be made, if anything is.

        Returns:
            The call with the guides' texts.
        """
        images = range(self.state.run.batch)
        longer = self.passes.extras.lengthened(now.call, now.rows, images, now.step)
        self._hook(now)
        split = None if self._running is None else self._running.split
        self.passes.adapters.aim(longer, now.step, images, now.rows, split)
        return longer

    def _hook(self, now: Now) -> None:
        self._watching = [guide for guide in self._watchers if guide.observes(now.step)]
        scales = self.passes.scales(self._reads(self._watching))
        splits = bool(self.passes.extras.acting(now.step))
        if not (scales or splits or self.state.texts or self.passes.biasing):
            return
        refuse_compiled_in_place(self.state.family.denoiser)
        self._running = self.passes.own(now, scales)
        self._stack.enter_context(self.passes.open(self._running))
        self._scales, self._step = scales, now.step

    def close(self) -> None:
        """Take off what a step, finished or failed, has left on the denoiser."""
        self._stack.close()
        self._running = None

    def finish(self) -> None:
        """The call has been made: keep what was read of it."""
        running = self._running
        self.close()
        if running is None:
            return
        refuse_unheard(running, self.state.family.attention_layers())
        self._watch(running)
        if self.state.setup.record:
            self._frames.append(self._cross(running).detach().float().cpu())

    @property
    def watches(self) -> bool:
        """Whether any guide looks at the maps of the run's own passes."""
        return bool(self._watchers)

    def _reads(self, watching: Sequence[Guide]) -> list[Read]:
        recorded = {Read("cross")} if self.state.setup.record else set()
        return sorted(recorded.union(*(guide.watches for guide in watching)), key=str)

    def _watch(self, running: Pass) -> None:
        if not self._watching:
            return
        assert self._step is not None  # the step that the pass was opened at
        images = range(self.state.run.batch)
        with torch.no_grad():
            for maps in self.passes.maps_of(running, images, self._scales):
                for guide in self._watching:
                    guide.watch(self._step, maps)

    def recorded(self) -> tuple[RecordedAttention, ...]:
        """What was read of each image; nothing if nothing was to be recorded."""
        if not self._frames:
            return ()
        run, unread = self.state.run, self.state.unread
        return tuple(
            RecordedAttention(prompt.plain, attention, () if unread else run.tokens(image), unread)
            for image, (prompt, attention) in enumerate(
                zip(run.prompts, torch.stack(self._frames, dim=1), strict=True)
            )
        )

    def _cross(self, running: Pass) -> Float[Tensor, "batch h w tokens"]:
        names = self._scales[Read("cross")]
        if self.state.run.tracks:
            return self.passes.maps_of(running, range(self.state.run.batch), self._scales)[
                0
            ].cross()
        return Maps(
            (), lambda read: [running.layers[name] for name in names], torch.zeros(0)
        ).cross()

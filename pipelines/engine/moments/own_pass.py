"""The denoiser's own pass, where its attention is biased, recorded or given other text."""

from __future__ import annotations

from contextlib import ExitStack

import torch
from jaxtyping import Float
from torch import Tensor

from adhere.guides.maps import Maps, Read
from adhere.guides.recording import RecordedAttention
from adhere.pipelines.engine.moments.passes import Passes, Scales
from adhere.pipelines.engine.state import Now, State
from adhere.pipelines.hooks.attending import Pass
from adhere.pipelines.hooks.hazards import refuse_compiled_in_place, refuse_unheard


class OwnPass:
    """Opens the denoiser before its own pass of a step, and closes it after."""

    def __init__(self, state: State, passes: Passes) -> None:
        self.state, self.passes = state, passes
        self._frames: list[Tensor] = []
        self._scales: Scales = {}
        self._running: Pass | None = None
        self._stack = ExitStack()

    def open(self, now: Now) -> None:
        """Hook what is wanted of the call that is about to be made, if anything is."""
        scales = self.passes.scales([Read("cross")]) if self.state.setup.record else {}
        splits = bool(self.passes.extras.acting(now.step))
        if not (scales or splits or self.state.texts or self.passes.biases):
            return
        refuse_compiled_in_place(self.state.family.denoiser)
        self._running = self.passes.own(now, scales)
        self._stack.enter_context(self.passes.open(self._running))
        self._scales = scales

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
        if self.state.setup.record:
            self._frames.append(self._cross(running).detach().float().cpu())

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

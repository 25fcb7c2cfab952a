"""The text embeddings of each denoiser call, as the guides want them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from adhere.errors import ModelError
from adhere.guides.guide import Change, Guide, Step, Text, unpooled
from adhere.guides.maps import Site
from adhere.pipelines.engine.state import Now, State
from adhere.pipelines.families.family import Encoded
from adhere.pipelines.hooks.denoiser_call import Call
from adhere.pipelines.hooks.hidden import changed
from adhere.prompt.tokens import Track


class Encoder:
    """The guides' own texts in a step, as the pipeline encodes its prompt.

    Several things are read of one text, and a large encoder takes its time: it is called once.
    """

    def __init__(self, state: State, width: int) -> None:
        self.state, self.width = state, width
        self._known: dict[tuple[str, ...], Encoded] = {}

    def encode(self, texts: Sequence[str]) -> Tensor:
        return self._embeds(self._encoded(texts))

    def pool(self, texts: Sequence[str]) -> Tensor:
        found = self.state.family.pooled(self._encoded(texts).values)
        return unpooled(texts) if found is None else found

    def within(self, texts: Sequence[str], encoder: str, layer: int, change: Change) -> Tensor:
        with changed(self.state.family.pipe, encoder, layer, change):
            return self._embeds(self.state.encoded(texts))

    def _encoded(self, texts: Sequence[str]) -> Encoded:
        key = tuple(texts)
        if key not in self._known:
            self._known[key] = self.state.encoded(texts)
        return self._known[key]

    def _embeds(self, found: Encoded) -> Tensor:
        family = self.state.family
        return family.widened(found.values[family.text], self.width)


class Embedding:
    """The guides of a run that change the text, for all layers or for some of `sites`."""

    def __init__(self, state: State, sites: Sequence[Site]) -> None:
        self.state, self.sites = state, tuple(sites)
        # What takes a text's place is not to undo what others make of it.
        self.guides = sorted(state.overriding("embed"), key=_comes_later)

    def applied(self, call: Call, step: Step) -> Call:
        """The step's own call with the text that the guides want."""
        if not self.guides:
            return call
        family, batch = self.state.family, self.state.run.batch
        embeds: Tensor = call.values[family.text]
        rows, none = family.conditional_rows(call, batch), family.unconditional_rows(call, batch)
        assert rows is not None  # or the call would not be the step's own
        every = family.pooled(call.values)
        pooled = None if every is None else every[rows]
        text = self._said(call, step, embeds[rows], None if none is None else embeds[none], pooled)
        self.state.texts = dict(text.layers)
        changed = embeds.clone()
        changed[rows] = text.cond
        if none is not None and text.uncond is not None:
            changed[none] = text.uncond
        call = family.retouched(call, changed, self.guides)
        if every is None or text.pooled is None or text.pooled is pooled:
            return call
        every = every.clone()
        every[rows] = text.pooled
        return family.repooled(call, every)

    def applied_apart(self, call: Call, now: Now) -> Call:
        """A later call of the step that has the unconditional text."""
        if not self.guides:
            return call
        name = self.state.family.text
        embeds: Tensor = call.values[name]
        text = self._said(call, now.step, now.given.values[name][now.rows], embeds)
        if text.uncond is None or text.uncond is embeds:
            return call
        return self.state.family.retouched(call, text.uncond, self.guides)

    def _said(
        self,
        call: Call,
        step: Step,
        cond: Tensor,
        uncond: Tensor | None,
        pooled: Tensor | None = None,
    ) -> Text:
        """What the guides make of a step's embeddings."""
        encoder = Encoder(self.state, (cond if uncond is None else uncond).shape[1])
        text = Text(
            cond,
            uncond,
            encoder.encode,
            sites=self.sites,
            within=encoder.within,
            pooled=pooled,
            pool=encoder.pool,
            verbatim=self.state.family.layer_texts,
        )

        def tracks(texts: Sequence[str]) -> tuple[Track, ...]:
            return self.state.family.tracks_of(texts, call)

        for guide in self.guides:
            text = self._asked(guide, step, text.replace(extra={}, tracks=tracks))
            self.state.extra[id(guide)] = text.extra
        return text

    def _asked(self, guide: Guide, step: Step, text: Text) -> Text:
        """What a guide makes of the text; it is named where the model cannot do what it wants."""
        try:
            return guide.embed(step, text)
        except ModelError as error:
            name = self.state.names[self.state.guides.index(guide)]
            if str(error).startswith(name):
                raise
            raise ModelError(f"{name}: {error}") from error


def _comes_later(guide: Guide) -> bool:
    return not (guide.rewords or guide.renegates)

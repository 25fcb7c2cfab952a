"""A model and a judge that need no weights: pictures drawn from the request itself."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from adhere.errors import Interrupted
from adhere.guides.recording import RecordedAttention
from adhere.pipelines.search.autopilot import Flying, Try
from adhere.pipelines.search.foreseeing import Foreseen
from adhere.pipelines.studio.request import OnStep, Picture, Progress, Request
from adhere.prompt.markup import strip_markup
from adhere.prompt.phrases import split_words
from adhere.prompt.tokens import Piece, TokenisedPrompt


class FakeTokenizer:
    """A token for each word; offsets as a fast tokenizer gives them."""

    is_fast = True
    all_special_ids = (0, 1)

    def __call__(self, prompt: str, **_: Any) -> dict[str, Any]:
        offsets, place = [(0, 0)], 0
        for word in prompt.split():
            start = prompt.index(word, place)
            place = start + len(word)
            offsets.append((start, place))
        ids = [0, *range(2, len(offsets) + 1), 1]
        return {"input_ids": ids, "offset_mapping": [*offsets, (0, 0)]}


class FakeStudio:
    """Draws one coloured disc for each subject; the plain picture forgets the last one.

    `asked` has every request that it was given, in order; `interrupted` counts how often it was so.
    As the engine does, it asks `interrupt` before every pass, of which a guided step has `passes`.
    Once it has made as many pictures as `held` says, it stays in the next one's second step until
    it is stopped, as a slow model would: what a test does meanwhile may take its time.
    """

    is_toybox = True

    def __init__(self, pause: float = 0.0, steps: int = 8) -> None:
        self.pause, self.steps = pause, steps
        self.pipe = SimpleNamespace(tokenizer=FakeTokenizer())
        self.step_calls = self.pass_calls = self.interrupted = 0
        self.passes = 2
        self.held: int | None = None
        self.made = 0
        self.asked: list[Request] = []
        self.fail: Exception | None = None

    def generate(
        self,
        requests: list[Request],
        *,
        on_step: OnStep | None = None,
        interrupt: Callable[[], bool] | None = None,
        record_attention: bool = False,
    ) -> list[Picture]:
        self.asked += requests
        if self.fail is not None:
            raise self.fail
        if requests[0].auto:
            return [FakeFlight(self, one, on_step, interrupt).picture() for one in requests]
        return self._made(requests, on_step, interrupt, record_attention)

    def _made(
        self,
        requests: list[Request],
        on_step: OnStep | None,
        interrupt: Callable[[], bool] | None,
        record_attention: bool = False,
    ) -> list[Picture]:
        steps = requests[0].steps or self.steps
        started = time.monotonic()
        for index in range(steps):
            self.step_calls += 1
            for _ in range(self.passes if requests[0].plugins else 1):
                self._heed(interrupt)
                self.pass_calls += 1
                time.sleep(self.pause / self.passes)
            while self.held is not None and self.made >= self.held and index == 1:
                self._heed(interrupt)
                time.sleep(0.02)
            if on_step is not None:
                latents = torch.full((len(requests), 4, 16, 16), index / steps)
                on_step(Progress(index, steps, latents))
        seconds = (time.monotonic() - started) / len(requests)
        self.made += len(requests)
        return [self._picture(r, steps, seconds, record_attention) for r in requests]

    def _heed(self, interrupt: Callable[[], bool] | None) -> None:
        if interrupt is not None and interrupt():
            self.interrupted += 1
            raise Interrupted("asked to")

    def preview(self, latents: torch.Tensor) -> list[Image.Image]:
        return [
            Image.new("RGB", (16, 16), (int(200 * float(one.mean())), 90, 120)) for one in latents
        ]

    def _picture(self, request: Request, steps: int, seconds: float, attention: bool) -> Picture:
        losses = {
            plugin.name: [(k, 1.0 - k / steps) for k in range(steps // 2)]
            for plugin in request.plugins
        }
        report = {
            "losses": losses,
            "refinements": [(0, 3), (2, 1)] if losses else [],
            "passes": 6 * len(losses),
            "notes": [],
        }
        words = len(list(split_words(strip_markup(request.prompt)))) + 2
        maps = torch.rand(steps, 16, 16, words) if attention else None
        return Picture(
            draw(request),
            request,
            report,
            seconds,
            None if maps is None else recorded(request.prompt, maps),
        )


class FakeFlight:
    """A flight of the library's own, whose pictures a fake studio draws: attempts with methods are
    scored 0.6, without 0.2.
    """

    counted: Any = None
    """What `Rows` would count, a row a step."""

    def __init__(self, studio: FakeStudio, request: Request, on_step: Any, interrupt: Any) -> None:
        self.studio, self.request = studio, request
        self.told, self.interrupt = on_step, interrupt
        self.tries: list[Try] = []
        self.made: dict[Try, Picture] = {}

    def picture(self) -> Picture:
        plan = self.request.flight_plan
        assert plan is not None
        flight = Flying(plan, self._score, self).flown(self.request.seed)
        best = self.made[flight.best]
        best.request, best.tries = self.request, tuple(flight.tries)
        best.report["autopilot"] = flight.to_json()
        return best

    def __call__(self, one: Try, look: Any) -> Image.Image | None:
        if one not in self.tries:
            self.tries.append(one)
        self.trying = one
        steps = self.request.steps or self.studio.steps
        if look is not None and self._seen(one, look, max(1, steps // 3), steps):
            return None
        self._count(steps, steps)
        self.made[one] = self._drawn(one, steps, last=True)
        return self.made[one].image

    def _seen(self, one: Try, look: Any, at: int, steps: int) -> bool:
        """Whether a look ends the try."""
        self._count(at, steps)
        look.looked([Foreseen(self._drawn(one, at, last=False).image)])
        return bool(look.done())

    def _count(self, made: int, steps: int) -> None:
        counts = {"rows": made, "own": made, "share": made / steps}
        self.counted = SimpleNamespace(**counts, steps=steps, evaluations=steps)

    def _drawn(self, one: Try, steps: int, last: bool) -> Picture:
        plugins = one.attempt.plugins
        asked = replace(self.request, auto=None, seed=one.seed, plugins=plugins, steps=steps)
        return self.studio._made([asked], self._tell, self.interrupt, last)[0]

    def _tell(self, progress: Progress) -> None:
        if self.told is not None:
            at = self.tries.index(self.trying)
            self.told(replace(progress, tries=tuple(map(copy, self.tries)), trying=at))

    def _score(self, pictures: Any, prompts: Any) -> list[float]:
        return [0.6 if self.trying.attempt.plugins else 0.2 for _ in pictures]


def recorded(prompt: str, attention: torch.Tensor) -> RecordedAttention:
    """Recorded attention whose columns are a start token and the prompt's words."""
    plain = strip_markup(prompt)
    words = enumerate(split_words(plain), 1)
    pieces = tuple(Piece(column, word.start, word.end) for column, word in words)
    width = attention.shape[-1]
    tokens = TokenisedPrompt(plain, pieces, width, tuple(range(1, width)), None, "fake")
    return RecordedAttention(plain, attention, (tokens,))


def draw(request: Request) -> Image.Image:
    """The picture of a request: the same for the same request, another for another."""
    digest = hashlib.sha256(f"{strip_markup(request.prompt)}{request.seed}".encode()).digest()
    image = Image.new("RGB", (request.width or 64, request.height or 64), (235, 228, 214))
    pen = ImageDraw.Draw(image)
    count = 2 if request.plugins else 1
    for k in range(count):
        x, y = 8 + digest[3 * k] % 30, 10 + digest[3 * k + 1] % 30
        pen.ellipse((x, y, x + 18, y + 18), fill=(digest[k + 5], digest[k + 9], digest[k + 13]))
    return image


@dataclass
class FakeOutcome:
    neglected: tuple[str, ...]
    miscoloured: tuple[str, ...] = ()
    swapped: tuple[str, ...] = ()
    relations: float | None = None

    @property
    def fully_right(self) -> bool:
        return not self.neglected


@dataclass
class FakeVerdict:
    things: list[Any]
    unsafe: bool = False

    def against(self, prompt: str) -> FakeOutcome:
        return FakeOutcome(() if len(self.things) > 1 else ("car",))

    def miou(self, layout: dict[str, Any]) -> float:
        return 0.1 + 0.3 * len(self.things)


class FakeJudge:
    """Sees one thing in a plain picture and two in a guided one."""

    def __call__(self, images: list[Image.Image]) -> list[FakeVerdict]:
        verdicts = []
        for image in images:
            colours = {tuple(c) for c in np.asarray(image).reshape(-1, 3)}
            thing = SimpleNamespace(
                kind="disc", colour="some", box=(1, 2, 30, 40), mask=np.ones((64, 64), bool)
            )
            verdicts.append(FakeVerdict([thing] * (len(colours) - 1)))
        return verdicts

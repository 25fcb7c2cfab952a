"""What is asked of a studio and what it gives back: requests, seeds, progress, pictures."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from PIL import Image
from torch import Tensor

from adhere.errors import ParameterError
from adhere.guides import parameters
from adhere.guides.guide import Plugin
from adhere.guides.recording import RecordedAttention
from adhere.layout.layout import Layout
from adhere.pipelines.search.autopilot import Try
from adhere.pipelines.search.plan import Pilot, Plan
from adhere.pipelines.search.search import Search
from adhere.plugins import plugin
from adhere.prompt.phrases import TORN, torn

_SINCE_0_2 = ("true_cfg_scale", "search", "auto")
"""Left out of the JSON where they say nothing, so that what names requests by it stays the same."""


@dataclass(frozen=True)
class Request:
    """Everything that changes the pixels of one picture. Plain data; JSON round-trip.

    `steps`, `guidance_scale`, `true_cfg_scale`, `width` and `height` (pixels) are the model's own
    defaults when None. With `search` it is the best of several, from `seed` and others; with
    `auto` an autopilot makes it, which chooses the plugins; a plan is flown as it stands.
    """

    prompt: str
    seed: int = 0
    negative_prompt: str = ""
    plugins: tuple[Plugin, ...] = ()
    subjects: tuple[str, ...] | None = None
    layout: Layout | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    width: int | None = None
    height: int | None = None
    scheduler: str | None = None
    true_cfg_scale: float | None = None
    search: Search | None = None
    auto: Pilot | Plan | None = None

    def __post_init__(self) -> None:
        for name in ("prompt", "negative_prompt"):
            text = str(getattr(self, name))
            if torn(text):
                raise ParameterError(f"{name}={text!a} {TORN}")

    def to_json(self) -> dict[str, Any]:
        """Plain data that `from_json` reads back to an equal request."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        plain["plugins"] = [parameters.to_json(one) for one in self.plugins]
        plain["layout"] = self.layout.to_json() if self.layout else None
        plain["search"] = self.search.to_json() if self.search else None
        plain["auto"] = self.auto.to_json() if self.auto else None
        plain["subjects"] = list(self.subjects) if self.subjects is not None else None
        return {k: v for k, v in plain.items() if k not in _SINCE_0_2 or v is not None}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Request:
        """The inverse of `to_json`.

        Raises:
            ParameterError: an unknown key, plugin or parameter.
            LayoutError: the layout does not read.
        """
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(data) - known):
            raise ParameterError(
                f"a request has no {unknown[0]!r}; it has: {', '.join(sorted(known))}"
            )
        values = dict(data)
        values["plugins"] = tuple(plugin(spec) for spec in values.get("plugins", ()))
        layout = values.get("layout")
        values["layout"] = Layout.from_json(layout) if layout else None
        search = values.get("search")
        values["search"] = Search.from_json(search) if search else None
        auto = values.get("auto")
        kind = Plan if "attempts" in (auto or {}) else Pilot
        values["auto"] = kind.from_json(auto) if auto else None
        subjects = values.get("subjects")
        values["subjects"] = tuple(subjects) if subjects is not None else None
        return cls(**values)

    @property
    def flight_plan(self) -> Plan | None:
        """How an autopilot flies it, on the request's own layout if it has one; None without."""
        if self.auto is None:
            return None
        if isinstance(self.auto, Plan):
            return replace(self.auto, layout=self.layout or self.auto.layout)
        return self.auto.plan(self.prompt, self.layout)

    def with_seed(self, seed: int) -> Request:
        """The same request from other noise."""
        return replace(self, seed=seed)

    def plain(self) -> Request:
        """The same request without any plugin: what guided pictures are compared with."""
        return replace(self, plugins=(), auto=None)


@dataclass(frozen=True)
class Progress:
    """One step of a batch that is being made: step `index` of `count`, and its latents.

    `tries` are those of an autopilot so far, of which it is making number `trying`.
    """

    index: int
    count: int
    latents: Tensor
    tries: tuple[Try, ...] = ()
    trying: int = 0


OnStep = Callable[[Progress], None]
Interrupt = Callable[[], bool]


@dataclass
class Picture:
    """One finished picture: the image, what was asked, what the guides report, what it took.

    `seconds` is the picture's share of its batch. `attention` is there when it was asked
    for. `made` says what the model chose where the request left it open (steps, scales, sampler),
    which model it was, and of several pictures which one was `chosen` (seed, score, an autopilot's
    attempt). `tries` is what an autopilot tried, with its pictures.
    """

    image: Image.Image
    request: Request
    report: dict[str, Any]
    seconds: float
    attention: RecordedAttention | None = None
    made: dict[str, Any] = field(default_factory=dict)
    tries: tuple[Try, ...] = ()

    @property
    def doubt(self) -> str | None:
        """What is wrong with it to all appearance; None for a picture that shows something."""
        # No generated picture is black to the last pixel: numbers that are none become zeros, and
        # safety checkers of pipelines put black in place of what they object to.
        return None if self.image.convert("RGB").getbbox() else _BLACK


_BLACK = (
    "the picture is wholly black: the model gave NaN, or a safety checker of the pipeline "
    "objected. In half precision some autoencoders overflow: use --dtype float32 or bfloat16"
)


MOST_SEEDS = 10_000


def seeds_of(text: str) -> tuple[int, ...]:
    """Seeds as numbers, each once.

    A number alone counts them, as in an experiment of `adhere eval`: `4` is seeds 0 to 3. Ranges
    and lists name them: `4-4`, `0-3,7`.

    Raises:
        ParameterError: it does not read, names none, or asks for too many.
    """
    if text.strip().isdecimal():
        return _counted(int(text))
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:\s*-\s*(\d+))?\s*", part)
        if match is None:
            raise ParameterError(
                f"seeds {text!r} do not read; write 4 (for seeds 0 to 3), 0-3, or 1,5,8-9"
            )
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ParameterError(f"seeds {part.strip()!r} run backwards; write {last}-{first}")
        if len(seeds) + last - first >= MOST_SEEDS or last >= 2**63:
            raise ParameterError(
                f"seeds {part.strip()!r}: expected at most {MOST_SEEDS} of them, each below 2^63"
            )
        seeds.extend(range(first, last + 1))
    return tuple(dict.fromkeys(seeds))


def _counted(count: int) -> tuple[int, ...]:
    if not 0 < count <= MOST_SEEDS:
        raise ParameterError(
            f"seeds {count}: a number alone says how many, from 1 to {MOST_SEEDS}; "
            f"seed {count} alone is --seed {count}"
        )
    return tuple(range(count))

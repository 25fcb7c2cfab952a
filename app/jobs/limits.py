"""Every limit of the app in one place, and the checks that hold them.

The app serves strangers: whatever they send is bounded here before it costs memory or time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from adhere.app.jobs.methods import title
from adhere.app.jobs.passes import dearest, job_passes
from adhere.errors import LayoutError, ParameterError, PromptError
from adhere.guides.guide import Plugin
from adhere.guides.parameters import Parameter
from adhere.pipelines.search.plan import Pilot
from adhere.pipelines.studio.request import Request
from adhere.prompt.markup import strip_markup
from adhere.verifiers import HARMLESS, verifier


@dataclass(frozen=True)
class Limits:
    """What one visitor may ask for.

    `side` and `pixels` are of the picture, in pixels; `plugins` act together, `attempts` are of an
    autopilot's plan; `passes` are evaluations of the denoiser in
    one job, `seconds` its time; `upload_bytes` and `upload_pixels` are of a file that is sent in;
    `waiting` is the length of the queue, `sessions` the number of visitors whose pictures are kept
    in memory and `galleries` in the operator's folder, `kept` the number of results for each;
    `verifiers` may judge an autopilot's pictures, the first where a visitor names none.
    """

    prompt: int = 1000
    seeds: int = 8
    seed: int = 2**32 - 1
    steps: int = 100
    guidance_scale: float = 50.0
    side: int = 1536
    pixels: int = 1024 * 1536
    plugins: int = 6
    attempts: int = 12
    passes: int = 6000
    seconds: float = 900.0
    regions: int = 12
    upload_bytes: int = 4 * 1024 * 1024
    upload_pixels: int = 4096 * 4096
    link_bytes: int = 12_000
    setup_bytes: int = 400_000
    waiting: int = 20
    sessions: int = 48
    kept: int = 12
    galleries: int = 500
    verifiers: tuple[str, ...] = HARMLESS

    @property
    def pilot(self) -> Pilot:
        """An autopilot of which nobody has said anything."""
        return Pilot(verifier=self.verifiers[0])


SCORES = (-1000.0, 1000.0)
"""Between which verifiers' scores are."""
LIMITS = Limits()
"""The limits of an app whose operator gives none."""


def with_options(options: Sequence[str], verifiers: Sequence[str] = ()) -> Limits:
    """Limits from an operator's `name=value` texts; the rest is the default.

    Args:
        verifiers: what may judge beside what comes with adhere; the first is the default.

    Raises:
        ParameterError: no such limit, a value that is no positive number, or no such verifier.
    """
    known = asdict(LIMITS)
    del known["verifiers"]
    for name in verifiers:
        verifier(name)
    given: dict[str, Any] = {}
    for option in options:
        name, _, text = option.partition("=")
        if name not in known:
            raise ParameterError(f"no limit is called {name!r}; there are: {', '.join(known)}")
        kind = type(known[name])
        try:
            given[name] = kind(text)
        except ValueError:
            given[name] = 0
        if not 0 < given[name] < float("inf"):
            raise ParameterError(f"--limit {option!r} is no positive number: write {name}=8")
    judging = dict.fromkeys((*verifiers, *LIMITS.verifiers))
    return Limits(**given, verifiers=tuple(judging))


def check_passes(request: Request, pictures: int, limits: Limits) -> None:
    """Hold a job to the number of model passes it may take.

    Raises:
        ParameterError: it could take more; the sentence says how many, and what asks for most.
    """
    most = job_passes(request, pictures)
    if most <= limits.passes:
        return
    asked = f"{pictures} seeds" if pictures > 1 else "this"
    raise ParameterError(
        f"{asked} can take {most:,} model passes, and {limits.passes:,} are the most for one "
        f"go{_blame(request)}"
    )


def _blame(request: Request) -> str:
    """What asks for most of a job's passes, and what to do."""
    if request.auto is not None:
        return f" (its budget is {request.auto.budget:g}): take a smaller budget, or fewer steps"
    method = dearest(request.plugins, request.steps)
    culprit = f"; {title(type(method))} asks for most of them" if method else ""
    return f"{culprit}: take fewer seeds, steps or repetitions"


def check_local(plugin: type[Plugin], parameter: Parameter, value: object) -> None:
    """Refuse a text that would have the server read a file or load a model of a visitor's choice.

    Raises:
        ParameterError: it is neither the default nor one of those that are open to all.
    """
    if parameter.local is None or value == parameter.default or value in parameter.local:
        return
    open_to_all = ", ".join(map(repr, parameter.local)) or "nothing but its default"
    raise ParameterError(
        f"{title(plugin)}: {parameter.name} names files and models of this server, which are its "
        f"host's to choose; it can be {open_to_all} here"
    )


def check_prompt(text: object, limits: Limits, what: str = "prompt") -> str:
    """The text as one clean line.

    Raises:
        PromptError: it is no text, or too long.
    """
    if not isinstance(text, str):
        raise PromptError(f"the {what} is not text: write it as one line of words")
    clean = " ".join(text.split())
    if len(clean) > limits.prompt:
        raise PromptError(
            f"the {what} has {len(clean)} characters, and {limits.prompt} is the most this app "
            "takes: shorten it"
        )
    return clean


def check_drawn(text: object, limits: Limits) -> str:
    """A prompt that can be drawn, as one clean line.

    Raises:
        PromptError: it is no text, too long, or its markup does not parse.
        ParameterError: it is empty.
    """
    prompt = check_prompt(text, limits)
    if not prompt:
        raise ParameterError("the prompt is empty: write what the picture should show")
    strip_markup(prompt)
    return prompt


def check_seeds(seeds: Sequence[int], limits: Limits) -> tuple[int, ...]:
    """The seeds without repetition, in their order.

    Raises:
        ParameterError: none, too many, or one out of range.
    """
    unique = tuple(dict.fromkeys(seeds))
    if not unique:
        raise ParameterError("no seed is given: write one, such as 0, or several, such as 0-3")
    if len(unique) > limits.seeds:
        raise ParameterError(
            f"{len(unique)} seeds are given, and {limits.seeds} are the most for one go: take fewer"
        )
    for seed in unique:
        if not 0 <= seed <= limits.seed:
            raise ParameterError(f"seed {seed} is out of range: use 0 to {limits.seed}")
    return unique


def read_seeds(text: object, limits: Limits) -> tuple[int, ...]:
    """Seeds from text such as `0-3`, `7` or `1, 5, 9`.

    Raises:
        ParameterError: it does not read as seeds, or breaks a limit.
    """
    seeds: list[int] = []
    for part in str(text if text is not None else "").replace(";", ",").split(","):
        first, dash, last = part.strip().partition("-")
        if not first and not dash:
            continue
        try:
            low, high = int(first), int(last) if dash else int(first)
        except ValueError:
            raise ParameterError(
                f"{part.strip()[:40]!r} does not read as a seed: write for example 0-3 or 1, 5, 9"
            ) from None
        # Checked before it is spelled out: "0-999999999" must not become a list.
        if high < low or high - low >= limits.seeds:
            raise ParameterError(
                f"the seeds {part.strip()[:40]} are backwards or too many: {limits.seeds} are the "
                "most for one go"
            )
        seeds.extend(range(low, high + 1))
    return check_seeds(seeds, limits)


def check_number(
    value: object, what: str, low: float, high: float, *, whole: bool = True
) -> float | None:
    """A number in a range, or None where nothing is given (the model's own).

    Raises:
        ParameterError: it is no number, or out of range.
    """
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ParameterError(f"{what} is not a number: use {low:g} to {high:g}")
    try:
        number = float(value)
    except ValueError:
        raise ParameterError(
            f"{what}={str(value)[:40]!r} is not a number: use {low:g} to {high:g}"
        ) from None
    # A NaN fails every comparison, so it is refused here too.
    if not low <= number <= high or (whole and number != int(number)):
        kind = "a whole number" if whole else "a number"
        raise ParameterError(
            f"{what}={str(value)[:40]} is out of range: use {kind} from {low:g} to {high:g}"
        )
    return number


def check_size(width: object, height: object, limits: Limits) -> tuple[int | None, int | None]:
    """Width and height in pixels, both or neither.

    Raises:
        ParameterError: too large, too small, only one of them, or not a multiple of 8.
    """
    sides = [
        check_number(width, "width", 16, limits.side),
        check_number(height, "height", 16, limits.side),
    ]
    if sides == [None, None]:
        return None, None
    if sides[0] is None or sides[1] is None:
        raise ParameterError("give both width and height, or leave both empty for the model's own")
    w, h = int(sides[0]), int(sides[1])
    if w % 8 or h % 8:
        raise ParameterError(f"{w}x{h} is no picture size: width and height must be multiples of 8")
    if w * h > limits.pixels:
        raise ParameterError(
            f"{w}x{h} is too large: at most {limits.pixels} pixels, such as 1024x1536"
        )
    return w, h


def check_regions(count: int, limits: Limits) -> None:
    """Raise `LayoutError` when a layout has too many regions."""
    if count > limits.regions:
        raise LayoutError(
            f"{count} regions are given, and {limits.regions} are the most: leave some out"
        )

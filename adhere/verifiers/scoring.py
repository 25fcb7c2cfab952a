"""Asking a verifier so that one that fails loses nothing: what has no score is kept, and said."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from adhere.errors import GuidanceError
from adhere.verifiers import Verifier
from adhere.verifiers.combining import asked


@dataclass(frozen=True)
class Scored:
    """The scores of some pictures; NaN where there is none, with why in `failures`."""

    scores: tuple[float, ...]
    failures: tuple[str, ...] = ()

    @property
    def order(self) -> tuple[int, ...]:
        """The pictures' places, best first. Those without a score come last, in their order."""
        known = [k for k, one in enumerate(self.scores) if not math.isnan(one)]
        unknown = [k for k, one in enumerate(self.scores) if math.isnan(one)]
        return (*sorted(known, key=lambda k: -self.scores[k]), *unknown)


def score(verifier: Verifier, pictures: Sequence[Image.Image], prompts: Sequence[str]) -> Scored:
    """Scores of pictures. Where the verifier raises for several, each is asked about alone.

    Raises:
        GuidanceError: the verifier itself says that it cannot be used as asked.
    """
    try:
        given = asked(verifier, pictures, prompts)
    except GuidanceError:
        raise
    except Exception as error:  # a user's function may raise anything
        if len(pictures) > 1:
            return _alone(verifier, pictures, prompts)
        return Scored((math.nan,), (_failed(prompts[0], f"{type(error).__name__}: {error}"),))
    finite = [one if math.isfinite(one) else math.nan for one in given]
    odd = [
        _failed(prompt, f"it gave {one}")
        for prompt, one in zip(prompts, given, strict=True)
        if not math.isfinite(one)
    ]
    return Scored(tuple(finite), tuple(dict.fromkeys(odd)))


def _alone(verifier: Verifier, pictures: Sequence[Image.Image], prompts: Sequence[str]) -> Scored:
    each = [score(verifier, [one], [prompt]) for one, prompt in zip(pictures, prompts, strict=True)]
    failures = dict.fromkeys(sentence for one in each for sentence in one.failures)
    return Scored(tuple(one.scores[0] for one in each), tuple(failures))


def _failed(prompt: str, why: str) -> str:
    return f"the verifier has no score for a picture of {prompt[:40]!r}, which is kept: {why}"

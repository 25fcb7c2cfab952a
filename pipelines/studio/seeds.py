"""Seeds as people write them: `4` (four of them), `0-3`, `1,5,8-9`."""

from __future__ import annotations

import re

from adhere.errors import ParameterError

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

"""Holding variants against plain pictures and the controls, and deciding the claims."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from adhere.eval.report.results import Results, Score
from adhere.eval.report.statistics import Interval, difference
from adhere.eval.scores.scored import Key
from benchmarks.effects import controls
from benchmarks.effects.claims import CLAIMS, CONTROLS, PLAIN, Claim, primary
from benchmarks.effects.controls import Controls, Rows

Values = Mapping[Key, float]


@dataclass(frozen=True)
class Study:
    """One experiment's results, its controls, and the steps of a picture; `earlier` are the scores
    of variants of an earlier run.
    """

    name: str
    results: Results
    controls: Controls
    steps: int
    earlier: Mapping[str, Rows] = field(default_factory=dict)

    def rows(self, variant: str) -> Rows:
        """All scores of a variant's pictures."""
        return self.earlier.get(variant) or controls.rows(self.results, variant)

    @property
    def without_rows(self) -> set[str]:
        """Variants of an earlier run of which the means are kept and no picture's scores."""
        every = {one.variant for one in self.results.scores}
        return {variant for variant in every if not any(self.rows(variant).values())}

    def values(self, variant: str, column: str) -> dict[Key, float]:
        """One score of every picture of a variant, by prompt and seed."""
        return controls.column_of(self.rows(variant), column)

    def against(self, variant: str, column: str) -> dict[str, Values]:
        """What a variant is held against: plain, the best swept scale, the best of N."""
        plain = self.rows(PLAIN)
        found: dict[str, Values] = {PLAIN: controls.column_of(plain, column)}
        best = self.controls.best_scale(column)
        if best is not None:
            found[f"plain at scale {best[0]:g}"] = best[1]
        passes = list(self.values(variant, "passes").values())
        count = controls.equal_count(sum(passes) / max(1, len(passes)), self.steps)
        chosen = self.controls.best_of(plain, count, column)
        if chosen and count > 1:
            found[f"best of {count}"] = chosen
        return found


def compared(study: Study, claim: Claim) -> dict[str, Interval]:
    """The paired differences that a claim is about, by what its variant is held against."""
    if claim.against == CONTROLS:
        others = study.against(claim.variant, claim.column)
    else:
        others = {claim.against: study.values(claim.against, claim.column)}
    mine = study.values(claim.variant, claim.column)
    column = study.results.columns.get(claim.column)
    share = column is not None and column.kind == "share" and claim.factor == 1
    found = {
        name: difference(
            mine, {key: claim.factor * value for key, value in values.items()}, share=share
        )
        for name, values in others.items()
    }
    return {name: each for name, each in found.items() if each is not None}


def decided(studies: Mapping[str, Study], claims: Iterable[Claim] = CLAIMS) -> list[dict[str, Any]]:
    """A row for every comparison of every claim whose pictures are there.

    What is claimed of the toybox is asked of the transformer toybox too. What `least` asks for is
    asked against plain; above the controls it is enough to be clear.
    """
    claims = list(claims)
    joint = [
        replace(c, experiment=c.experiment.replace("toybox", "toybox-sd3"))
        for c in claims
        if "toybox" in c.experiment
    ]
    rows = []
    for claim in (*claims, *joint):
        if claim.experiment not in studies:
            continue
        for name, found in compared(studies[claim.experiment], claim).items():
            rule = claim if name in (PLAIN, claim.against) else replace(claim, least=0.0)
            row = asdict(claim) | {"against": name, **asdict(found), "holds": rule.holds(found)}
            rows.append(row)
    return rows


def still_decided(
    known: Iterable[Mapping[str, Any]],
    now: Iterable[Mapping[str, Any]],
    studies: Mapping[str, Study],
) -> list[dict[str, Any]]:
    """Claims that an earlier report decided and this one cannot: of other experiments, and of
    variants in whose results stand the means of pictures that are gone.
    """
    again = {_about(row) for row in now}
    still = {(c.says, c.variant) for c in CLAIMS}
    found = []
    for row in known:
        study = studies.get(row["experiment"])
        stands = study is None or {row["variant"], row["against"]} & study.without_rows
        if stands and _about(row) not in again and (row["says"], row["variant"]) in still:
            found.append(dict(row))
    return found


def _about(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["experiment"], row["says"], row["variant"]


def place(row: Mapping[str, Any]) -> tuple[bool, int]:
    """Where a decided claim stands among the others: the transformer's after the UNet's."""
    known = [(claim.says, claim.variant) for claim in CLAIMS]
    joint = row["experiment"].startswith("toybox-sd3")
    return joint, known.index((row["says"], row["variant"]))


def claims_table(rows: Iterable[Mapping[str, Any]]) -> str:
    """The claims as Markdown."""
    lines = ["| claim | paired difference, 95 % interval | n | holds |", "|---|---|---|---|"]
    for row in rows:
        other = row["against"] if row["factor"] == 1 else f"{row['factor']} x {row['against']}"
        who = f"{row['says']} (`{row['variant']}` against `{other}`, {row['column']})"
        lines.append(
            f"| {who} | {_spread(row)} | {row['n']} | {'yes' if row['holds'] else '**no**'} |"
        )
    return "\n".join(lines)


def controls_table(study: Study) -> str:
    """Every variant's primary score against plain and both controls, with its cost, as Markdown."""
    column = primary(study.name)
    lines = [
        f"| variant | {column} | against plain | against the best scale | against the best of N "
        "| passes | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for variant in dict.fromkeys(score.variant for score in study.results.scores):
        means = {one.column: one for one in study.results.scores if _is_of(one, variant)}
        if variant == PLAIN or column not in means:
            continue
        claim = Claim("", study.name, variant, CONTROLS, column)
        plain = means[column].difference
        found = compared(study, claim) or ({PLAIN: plain} if plain else {})
        cells = [_held(found, start) for start in (PLAIN, "plain at", "best of")]
        cost = (f"{means[one].mean:.1f}" if one in means else "-" for one in ("passes", "seconds"))
        lines.append(f"| {' | '.join([variant, f'{means[column].mean:.3f}', *cells, *cost])} |")
    return "\n".join(lines)


def _is_of(score: Score, variant: str) -> bool:
    return score.variant == variant and score.tag is None


def _held(found: Mapping[str, Interval], start: str) -> str:
    """The difference from the control whose name is or begins so."""
    for name, each in found.items():
        if name == start or (start != PLAIN and name.startswith(start)):
            label = "" if name == PLAIN else f" ({name.removeprefix('plain at ')})"
            return f"{_spread(asdict(each))}{label}"
    return "-"


def _spread(row: Mapping[str, Any]) -> str:
    if row["low"] is None or row["high"] is None:
        return f"{row['mean']:+.3f}"
    return f"{row['mean']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"

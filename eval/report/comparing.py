"""Two runs compared: the same suites, prompts and seeds, made in two places or at two times."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from adhere.eval.errors import EvaluationError
from adhere.eval.evaluators.evaluator import Measure
from adhere.eval.files import canonical
from adhere.eval.report.results import Results, Score, tested
from adhere.eval.report.statistics import difference, interval
from adhere.eval.report.wording import change, number
from adhere.eval.scores.scored import Key

Table = Mapping[tuple[str, str], Mapping[Key, float]]
"""Scores by suite and column, then by item and seed."""


@dataclass(frozen=True)
class Comparison:
    """Differences of two runs with the columns they are in, and what to know of them."""

    scores: list[Score]
    columns: dict[str, Measure]
    warnings: list[str]

    def lines(self) -> list[str]:
        """As Markdown: one row for each score."""
        head = "| suite | score | before | after | difference | n |"
        rows = [head, "|---|---|---|---|---|---|"]
        for score in self.scores:
            column, found = self.columns[score.column], score.difference
            assert found is not None  # only compared scores are here
            before = number(found.before, column) if found.before is not None else ""
            after = number(found.mean + (found.before or 0), column)
            rows.append(
                f"| {score.suite} | {score.column} | {before} | {after} | {change(score, column)} "
                f"| {found.n} |"
            )
        return rows


def compare(
    before: Results, after: Results, variant: str, against: str, primary: str | None = None
) -> Comparison:
    """The difference of `variant` in the second run to `against` in the first.

    Raises:
        EvaluationError: a run has no such variant, they share no suite, prompt, seed and score, or
            were scored with different weights.
    """
    _check_variant(before, against, "first")
    _check_variant(after, variant, "second")
    _check_weights(before, after)
    first, second = _table(before, against), _table(after, variant)
    other = _other_prompts(before, after)
    columns = {**before.columns, **after.columns}
    scores = []
    for (suite, name), values in second.items():
        there = first.get((suite, name), {})
        plain = {key: value for key, value in there.items() if (suite, key[0]) not in other}
        share = columns[name].kind == "share"
        found = difference(values, plain, share=share)
        whole = interval(values, share=share)
        if found is not None and whole is not None:
            scores.append(
                Score(suite, variant, "", name, whole.mean, whole.n, whole.low, whole.high,
                      whole.prompts, found)
            )  # fmt: skip
    if not scores:
        raise EvaluationError(
            f"variant {variant!r} of the second run and {against!r} of the first share no scored "
            f"picture (suites {', '.join(after.about['suites'])} and "
            f"{', '.join(before.about['suites'])}; {len(other)} items have the same id and "
            "another prompt)"
        )
    warnings = list(_differences(before, after))
    if other:
        warnings.append(
            f"{len(other)} items have the same id and another prompt in the two runs; they are "
            "not compared"
        )
    return Comparison(tested(scores, columns, primary), columns, warnings)


def _prompts(results: Results) -> dict[tuple[str, str], str]:
    """The prompts by suite and item."""
    scored = results.values.scored
    return {
        (suite, scored.items[item]): scored.prompts[item]
        for (suite, _), numbers in scored.places.items()
        for item in set(scored.item[numbers].tolist())
    }


def _other_prompts(before: Results, after: Results) -> set[tuple[str, str]]:
    """The suites and items that the two runs mean different prompts by."""
    one, two = _prompts(before), _prompts(after)
    return {place for place in one.keys() & two.keys() if one[place] != two[place]}


def _table(results: Results, variant: str) -> Table:
    found: dict[tuple[str, str], dict[Key, float]] = defaultdict(dict)
    for key, row in results.values.items():
        suite, item, its_variant, seed = key.split("/")
        if its_variant == variant:
            for name, value in row.items():
                found[suite, name][item, int(seed)] = value
    return found


def _check_variant(results: Results, variant: str, which: str) -> None:
    there = {name: None for _, name in results.values.scored.places}
    if variant not in there:
        raise EvaluationError(
            f"the {which} run has no variant {variant!r}; it has {', '.join(there)}"
        )


def _check_weights(before: Results, after: Results) -> None:
    ours, theirs = (results.about["evaluator_weights"] for results in (before, after))
    for slug in sorted(set(ours) & set(theirs)):
        if ours[slug] != theirs[slug]:
            raise EvaluationError(
                f"{slug} scored the two runs with different weights ({ours[slug]} and "
                f"{theirs[slug]}); score one of them again"
            )
    first, second = (
        {score.column: score.evaluator for score in results.scores} for results in (before, after)
    )
    for column in sorted(set(first) & set(second)):
        slugs = first[column], second[column]
        if slugs[0] != slugs[1]:
            one, two = (
                canonical(results.about["evaluators"].get(slug, slug))
                for results, slug in zip((before, after), slugs, strict=True)
            )
            raise EvaluationError(
                f"{column} was scored with different settings in the two runs ({one} and {two}); "
                "score both by the same evaluator and name it (--metric)"
            )


def _differences(before: Results, after: Results) -> list[str]:
    """What else than the variants the two runs differ in."""
    sentences = []
    for name in sorted(set(before.about["suites"]) & set(after.about["suites"])):
        prints = {results.about["suites"][name]["fingerprint"] for results in (before, after)}
        if len(prints) > 1:
            sentences.append(
                f"suite {name} is not the same in both runs; what both have is compared"
            )
    for key in ("model", "settings", "made_with"):
        one, two = before.about[key], after.about[key]
        for name in sorted(set(one) | set(two)):
            if one.get(name) != two.get(name):
                sentences.append(f"{key} {name}: {one.get(name)} before, {two.get(name)} after")
    return sentences

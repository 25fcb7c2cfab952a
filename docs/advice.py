"""When to use which method: what the committed studies decide, beside what stands by hand.

The rule: of the methods that help (the interval of the paired difference is clear of zero, what was
asked for is not lost, there are ten prompts or more) the one with the largest lower end, unless one
about as good needs at most half its passes, or is a part of it and needs no more. Two are about as
good where each one's interval holds the other's mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from string import ascii_lowercase

from adhere.guides.tasks import TASKS, task_of
from adhere.plugins import PLUGINS
from docs import cards
from docs.measured import NEGATIVE, TOYBOXES, Question, Result, best
from docs.questions import AMONG_THEMSELVES, FOUR, QUESTIONS, SITUATIONS, Situation

NOT_MEASURED = "not measured"
NOTHING = "no method that was measured helps clearly"


@dataclass(frozen=True)
class Advice:
    """What a toybox says to a question."""

    first: Result | None
    as_good: tuple[Result, ...]
    cheaper: tuple[Result, ...]
    """They help, less, and for fewer passes."""
    worse: tuple[Result, ...]
    """They harm, or lose what was asked for."""
    few: bool = False
    """Whether something has too few prompts for a verdict."""

    @property
    def nothing(self) -> str:
        """In words, where nothing helps."""
        return "too few prompts for a verdict" if self.few else NOTHING


def advice(question: Question, toybox: str, only: str = "") -> Advice | None:
    """By the rule, among the methods of a task if `only` is one; None where nothing is measured."""
    found = [
        one
        for one in best(question, toybox).values()
        if not only or all(task(name) == only for name in one.method.split("+"))
    ]
    if not found:
        return None
    worse = tuple(one for one in found if one.harms)
    few = not all(one.enough for one in found)
    helping = sorted((one for one in found if one.helps), key=_low, reverse=True)
    if not helping:
        return Advice(None, (), (), worse, few)
    equal = [one for one in helping if _as_good(one, helping[0])]
    thrifty = [one for one in equal if _passes(one) <= _passes(helping[0]) / 2]
    simpler = [
        one for one in equal if _part(one, helping[0]) and _passes(one) <= _passes(helping[0])
    ]
    first = (thrifty or simpler or helping)[0]
    as_good = tuple(one for one in equal if one is not first)
    cheaper = tuple(one for one in helping if one not in equal and _passes(one) < _passes(first))
    return Advice(first, as_good, cheaper, worse)


def task(name: str) -> str:
    """A plugin's or a tool's task; none of what methods are held against."""
    if name in cards.TOOLS:
        return cards.TOOLS[name].task
    return task_of(PLUGINS[name]) if name in PLUGINS else ""


def _low(one: Result) -> float:
    return one.change.toward(one.way)[0]


def _passes(one: Result) -> float:
    return one.passes or 0.0


def _part(one: Result, stack: Result) -> bool:
    """Whether a method is in a stack, or a stack in a larger one."""
    return set(one.method.split("+")) < set(stack.method.split("+"))


def _as_good(one: Result, other: Result) -> bool:
    (low, _), (_, high) = other.change.toward(one.way), one.change.toward(one.way)
    return one.way * one.change.mean >= low and high >= other.way * other.change.mean


# ---- In words ----------------------------------------------------------------


def figure(question: Question, one: Result) -> str:
    """The score without and with a method, the paired difference, pictures and extra passes."""
    change = one.change
    moved = _moved(question, one)
    parts = [
        f"{_number(question, change.before)} -> {_number(question, change.before + change.mean)}"
        + (" %" if question.share else ""),
        f"**{moved}**" if one.better or one.worse else moved,
        f"n = {change.n}" if one.enough else f"{change.prompts} prompts, no verdict",
        "" if change.paired else "other pictures",
        "" if one.passes is None else _cost(one),
        one.setting,
    ]
    said = ", ".join(filter(None, parts))
    if one.kept and one.loses:
        lost = 100 * one.kept.before, 100 * (one.kept.before + one.kept.mean)
        said += f"; **but** what was asked for {lost[0]:.0f} -> {lost[1]:.0f} %"
    return said


def _number(question: Question, value: float, sign: str = "") -> str:
    return f"{round(100 * value, 6):{sign}.0f}" if question.share else f"{value:{sign}.2f}"


def _moved(question: Question, one: Result) -> str:
    mean, low, high = one.change.mean, one.change.low, one.change.high
    interval = f"[{_number(question, low)}, {_number(question, high)}]"
    return f"{_number(question, mean, '+')} {interval}"


def _cost(one: Result) -> str:
    count = round(one.passes or 0)
    return "no pass" if not count else f"{count} pass{'es' * (count > 1)}"


def link(name: str) -> str:
    """A method's title, or those of a stack, leading to its page from docs/methods/."""
    return " with ".join(
        _OTHERS.get(one) or f"[{cards.read(one).title}]({_page(one)})" for one in name.split("+")
    )


_OTHERS = {NEGATIVE: "a plain negative prompt", FOUR: "the best of 4 plain pictures"}


def _page(name: str) -> str:
    return f"../{cards.read(name).page}".removeprefix("../methods/")


def told(question: Question, toybox: str, only: str = "") -> str:
    """What a toybox says to a question, in a few sentences."""
    found = advice(question, toybox, only)
    if found is None:
        return NOT_MEASURED
    first = found.first
    said = [
        f"begin with {link(first.method)} ({figure(question, first)})" if first else found.nothing
    ]
    for how, several in (
        ("about as good", found.as_good),
        ("for fewer passes", found.cheaper),
        ("**not**", found.worse),
    ):
        names = [f"{link(one.method)} ({_aside(question, one)})" for one in several]
        said += [f"{how}: {', '.join(names)}"] if names else []
    return "; ".join(said)


def _aside(question: Question, one: Result) -> str:
    cost = "" if one.passes is None else f", {_cost(one)}"
    lost = ", what was asked for is lost" if one.loses else ""
    return f"{_number(question, one.change.mean, '+')}{cost}{lost}"


def situations() -> str:
    """What is wrong with a picture, and what to begin with: by each toybox, and by hand."""
    heads = (*TOYBOXES.values(), "beside that, or where nothing is measured")
    lines = [f"| the picture... | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
    for one in SITUATIONS:
        cells = (*(_begin(one, toybox) for toybox in TOYBOXES), _by_hand(one))
        lines.append(f"| {one.says} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _begin(situation: Situation, toybox: str) -> str:
    """By the first of its questions that was asked of this toybox."""
    for question in situation.questions:
        if found := advice(question, toybox, situation.only):
            first = found.first
            if first is None:
                return found.nothing
            also = [link(one.method) for one in found.as_good if _passes(one) <= _passes(first)]
            return f"{link(first.method)}: {figure(question, first)}" + (
                f"; about as good: {', '.join(also)}" if also else ""
            )
    return NOT_MEASURED if situation.questions else ""


def _by_hand(situation: Situation) -> str:
    """What is recommended for a case of its own, or where no study says to begin with it."""
    begun = {
        found.first.method
        for question in situation.questions
        for toybox in TOYBOXES
        if (found := advice(question, toybox, situation.only)) and found.first
    }
    return "; ".join(
        f"{f'{pick.when}: ' if pick.when else ''}{link(pick.method)}"
        + "".join(
            f" ({says}: {figure(*found)})" for says, found in _measured(pick.method, situation)
        )
        for pick in situation.picks
        if pick.when or pick.method not in begun
    )


def _measured(method: str, situation: Situation) -> Iterator[tuple[str, tuple[Question, Result]]]:
    for toybox, says in TOYBOXES.items():
        for question in situation.questions:
            if one := best(question, toybox).get(method):
                yield f"measured on the {says}, {question.says}", (question, one)
                break


def tasks() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Of each task how it is said and the methods that are for it, tools after plugins."""
    names = (*sorted(PLUGINS), *cards.TOOLS)
    said = {**TASKS, cards.EXPLAIN: "explain pictures, and find prompts for them"}
    found = {one: (says, tuple(n for n in names if task(n) == one)) for one, says in said.items()}
    return {one: (says, kinds) for one, (says, kinds) in found.items() if kinds}


def index() -> str:
    """A table for each task, with a row for each method: its card's words and the figures."""
    return "\n\n".join(_section(*one) for one in tasks().items())


def _section(of: str, about: tuple[str, tuple[str, ...]]) -> str:
    says, names = about
    asked = [one for one in QUESTIONS.get(of, ()) if any(best(one, toybox) for toybox in TOYBOXES)]
    only = of if of in AMONG_THEMSELVES else ""
    asked = [one for one in asked if any(advice(one, toybox, only) for toybox in TOYBOXES)]
    letters = [f"({letter}) " for letter in ascii_lowercase[: len(asked)]] if asked[1:] else [""]
    lines = [f"### To {says}", ""]
    for letter, question in zip(letters, asked, strict=False):
        toys = (f"*{name}*: {told(question, toy, only)}" for toy, name in TOYBOXES.items())
        lines += [f"- {letter}**{question.says}.** {'. '.join(toys)}."]
    heads = ("method", "what it does, and when to use it", *TOYBOXES.values(), "changes", "cost")
    lines += ["", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    lines += [_row(name, list(zip(letters, asked, strict=False)), only) for name in names]
    return "\n".join(lines).replace("\n\n\n", "\n\n")


def _row(name: str, asked: list[tuple[str, Question]], only: str) -> str:
    said = cards.read(name)
    cells = (
        f"{link(name)} ({said.paper})",
        f"{said.does.rstrip('.')}. Use it {said.use}.",
        *(_cell(name, asked, toybox, only) for toybox in TOYBOXES),
        said.changes,
        said.cost,
    )
    return f"| {' | '.join(cells)} |"


def _cell(name: str, asked: list[tuple[str, Question]], toybox: str, only: str) -> str:
    """By the first question that a method was measured in."""
    for letter, question in asked:
        if one := best(question, toybox).get(name):
            found = advice(question, toybox, only)
            begin = bool(found and found.first and found.first.method == name)
            return f"{letter}{'**Begin here:** ' * begin}{figure(question, one)}"
    return NOT_MEASURED


def overview() -> str:
    """The README's rows: a task, the methods to begin with, and all."""
    lines = ["| to ... | begin with, by the studies of the toyboxes | all |", "|---|---|---|"]
    for one, (says, names) in tasks().items():
        links = ", ".join(f"[`{_called(name)}`](docs/{cards.read(name).page})" for name in names)
        lines.append(f"| {says} | {_shortly(one)} | {links} |")
    return "\n".join(lines)


MOST = 2
"""Questions of a task that the README shows."""


def _shortly(of: str) -> str:
    """Of a task's questions the first, and those that have another answer than the ones before."""
    only = of if of in AMONG_THEMSELVES else ""
    said: list[str] = []
    named: set[str] = set()
    for question in QUESTIONS.get(of, ()):
        found = {says: advice(question, toybox, only) for toybox, says in TOYBOXES.items()}
        firsts = {says: one.first for says, one in found.items() if one and one.first}
        if {one.method for one in firsts.values()} - named and len(said) < MOST:
            named |= {one.method for one in firsts.values()}
            begin = ", ".join(
                f"{_name(one.method)} {_moved(question, one)} ({says.split()[0]})"
                for says, one in firsts.items()
            )
            said.append(f"*{question.says.replace(': ', ', ')}*: {begin}")
    return "; ".join(said) or NOT_MEASURED


def _name(method: str) -> str:
    return " + ".join(_OTHERS.get(one) or f"`{_called(one)}`" for one in method.split("+"))


def _called(name: str) -> str:
    """A plugin's name, a tool's command."""
    return cards.read(name).title.split("`")[1] if name in cards.TOOLS else name


# ---- What must not be --------------------------------------------------------


def contradictions() -> list[str]:
    """What is recommended by hand, or by a card, though a study says that it harms."""
    found = []
    for situation in SITUATIONS:
        for pick in situation.picks:
            asked = (*situation.questions, *QUESTIONS.get(task(pick.method), ()))
            found += [
                f'docs/questions.py recommends {pick.method} for a picture that "{situation.says}"'
                f", but {told}"
                for told in _harms(pick.method, asked)
            ]
    for name in PLUGINS:
        if "toybox" not in cards.read(name).use:
            found += [
                f"docs/methods/{name}.md says when to use it, but {told}: say so in its sentence "
                "'Use it when ...', with the word 'toybox'"
                for told in _harms(name, QUESTIONS.get(task(name), ()))
            ]
    return found


def _harms(method: str, questions: Iterable[Question]) -> list[str]:
    return [
        f"on the {says} it harms ({question.says}: {figure(question, one)})"
        for question in dict.fromkeys(questions)
        for toybox, says in TOYBOXES.items()
        if (one := best(question, toybox).get(method)) and one.harms
    ]

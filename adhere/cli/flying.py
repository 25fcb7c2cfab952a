"""From the options of `--auto` and `adhere plan` to how a prompt is flown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adhere import verifiers
from adhere.cli.options import Content, Drawing
from adhere.errors import GuidanceError, ParameterError
from adhere.layout.layout import Layout
from adhere.pipelines.search.plan import Pilot, Plan
from adhere.pipelines.studio.output import writable_file, write_json
from adhere.pipelines.studio.request import Request
from adhere.written import from_json

SETTINGS = ("budget", "verifier", "enough", "look_at")


def said(drawing: Drawing, *names: str) -> dict[str, Any]:
    """Those of some options that were given."""
    values = {name: getattr(drawing, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def pilot(drawing: Drawing, content: Content, guided: bool) -> Pilot | Plan | None:
    """What `--auto` or `--plan` and their companions say.

    Raises:
        ParameterError: options that do not go together, or a plan that does not read.
    """
    if drawing.plan is None and not drawing.auto:
        return None
    option = "--plan" if drawing.plan else "--auto"
    if drawing.best_of is not None:
        raise ParameterError(f"{option} and --best-of both choose among pictures; give one of them")
    if guided:
        raise ParameterError(f"{option} chooses the methods itself; leave out -p")
    found = _read(drawing, content) if drawing.plan else Pilot(**said(drawing, *SETTINGS))
    if isinstance(found, Pilot):
        found.plan("a cat")  # a number out of range is said before a model is loaded
    elif content.layout and not any(
        hasattr(p, "layout") for a in found.attempts for p in a.plugins
    ):
        raise ParameterError(
            f"--layout {content.layout}: no attempt of the plan follows a layout; add one that "
            'does, such as {"why": "...", "plugins": ["zestguide"]}, or leave out --layout'
        )
    verifiers.verifier(found.verifier)
    return found


def _read(drawing: Drawing, content: Content) -> Plan:
    """An edited plan's file."""
    path = drawing.plan
    assert path is not None  # `pilot` has seen to that
    if given := said(drawing, *SETTINGS):
        raise ParameterError(
            f"--{next(iter(given)).replace('_', '-')} stands in the plan already; edit {path}"
        )
    if content.prompt is not None or content.prompts is not None:
        raise ParameterError(f"--plan {path} has its prompt; leave the other out, or edit the plan")
    try:
        data = from_json(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict):
            raise ParameterError(f"it holds {type(data).__name__}, no plan")
        return Plan.from_json(data)
    except (OSError, UnicodeDecodeError, ValueError, TypeError, GuidanceError) as error:
        raise ParameterError(
            f"--plan {path} does not read: {error}; `adhere plan PROMPT -o {path}` writes one"
        ) from error


def told(pilot: Pilot | Plan, prompt: str, layout: Layout | None = None) -> list[str]:
    """What will be tried for a prompt, in words.

    Args:
        layout: where its things belong, if that is given beside the plan.
    """
    plan = Request(prompt, layout=layout, auto=pilot).flight_plan
    assert plan is not None  # it has a pilot
    return [f"the autopilot's plan for {prompt!r}:", *(f"  {line}" for line in plan.told())]


def plan(prompt: str, settings: dict[str, Any], out: Path | None) -> list[str]:
    """A prompt's plan in words; written to a file if there is one to be written."""
    how = Pilot(**settings)
    verifiers.verifier(how.verifier)
    if out is None:
        return told(how, prompt)
    write_json(writable_file(out), how.plan(prompt).to_json())
    return [*told(how, prompt), f"edit {out}, then: adhere generate --plan {out}"]

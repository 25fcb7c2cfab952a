"""A request of a program in plain types, as a job and its answer: for `/generate` and for MCP."""

from __future__ import annotations

import base64
import binascii
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adhere.app.jobs import setup as setups
from adhere.app.jobs import uploads
from adhere.app.jobs.limits import LIMITS
from adhere.app.jobs.setup import Setup
from adhere.app.jobs.worker import Result, Worker
from adhere.app.outcome import verdicts
from adhere.app.parts import placing
from adhere.errors import LayoutError, ParameterError
from adhere.guides import parameters
from adhere.pipelines.studio.request import Request
from adhere.plugins import plugin


@dataclass(frozen=True)
class Asked:
    """What programs may say besides the prompt; see the endpoint for what each means."""

    plugins: Sequence[str] | None = None
    seed: int = 0
    subjects: Sequence[str] | None = None
    boxes: Mapping[str, Any] | None = None
    mask_png: str | None = None
    legend: Mapping[str, str] | None = None
    negative_prompt: str = ""
    steps: int | None = None
    guidance_scale: float | None = None
    width: int | None = None
    height: int | None = None
    scheduler: str | None = None
    true_cfg_scale: float | None = None
    model: str | None = None

    def setup(self, prompt: str, worker: Worker) -> Setup:
        """The set-up, with every limit held.

        Raises:
            GuidanceError: it does not read, or asks for too much.
        """
        request = Request(
            prompt=prompt,
            negative_prompt=self.negative_prompt,
            steps=self.steps,
            guidance_scale=self.guidance_scale,
            width=self.width,
            height=self.height,
            scheduler=self.scheduler,
            true_cfg_scale=self.true_cfg_scale,
        ).to_json()
        del request["seed"]
        request |= {
            "plugins": [_plugin(text) for text in self.plugins or ()],
            "subjects": self.subjects,
            "layout": _layout(self.boxes, self.mask_png, self.legend),
        }
        data = {"model": self.model or worker.models[0], "seeds": [self.seed], **request}
        setup = setups.from_json(data, worker.models, worker.limits)
        if setup.request.layout is not None:
            placing.check_followed(setup.request.plugins)
        return setup


def made(worker: Worker, setup: Setup, compare: bool) -> Result:
    """The finished result; without `compare` only the guided picture is made."""
    last: Result | None = None
    for event in worker.run(setup, threading.Event(), compare=compare):
        if isinstance(event, Result):
            last = event
    if last is None or not last.comparisons:
        raise ParameterError("the picture was not finished: try again")
    return last


def report(result: Result) -> dict[str, Any]:
    """What was asked, what it took, and what the judge says, as plain data."""
    one = result.comparisons[0]
    before = one.before
    return {
        "settings": result.setup.to_json(),
        "seconds": round(one.after.picture.seconds, 3),
        "seconds_plain": round(before.picture.seconds, 3) if before else None,
        "report": one.after.picture.report,
        "judged": verdicts.judged(one.after),
        "judged_plain": verdicts.judged(before) if before else None,
    }


def _layout(
    boxes: Mapping[str, Any] | None, mask_png: str | None, legend: Mapping[str, str] | None
) -> dict[str, Any] | None:
    if boxes and mask_png:
        raise LayoutError("boxes and mask_png are both given: give one of them")
    if boxes:
        if not isinstance(boxes, Mapping):
            raise LayoutError("boxes must map a phrase to [left, top, right, bottom]")
        return {
            "regions": [{"phrase": phrase, "box": box} for phrase, box in boxes.items()],
            "overlap": "last",
        }
    if mask_png:
        lines = "\n".join(f"{key} = {phrase}" for key, phrase in (legend or {}).items())
        regions = placing.from_mask(
            uploads.decode(_from_base64(mask_png)), placing.read_legend(lines)
        )
        return {"regions": [region.to_json() for region in regions]}
    return None


def _plugin(text: str) -> dict[str, Any]:
    """A plugin's JSON, from JSON text or from the command line's `name:key=value,...`."""
    if not text.lstrip().startswith("{"):
        return parameters.to_json(plugin(text))
    try:
        data = json.loads(text)
    except ValueError:
        raise ParameterError(f"plugins: {text[:60]!r} is no JSON: check its braces") from None
    return dict(data)


def _from_base64(text: str) -> bytes:
    if len(text) > LIMITS.upload_bytes * 4 // 3 + 4:
        raise LayoutError("mask_png is too large: send a smaller picture")
    try:
        return base64.b64decode(text.partition("base64,")[2] or text, validate=True)
    except (binascii.Error, ValueError):
        raise LayoutError("mask_png is no base64 text: encode the bytes of a PNG file") from None

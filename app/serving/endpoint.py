"""The endpoint for programs: plain types in, a picture and a report out (`gradio_client`, MCP)."""

from __future__ import annotations

import base64
import binascii
import functools
import inspect
import json
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from adhere.app.jobs import setup as setups
from adhere.app.jobs import uploads
from adhere.app.jobs.limits import LIMITS
from adhere.app.jobs.setup import Setup
from adhere.app.jobs.workshop import Pair, Result, Workshop, sentence
from adhere.app.parts import placing
from adhere.app.parts.events import QUEUE
from adhere.errors import LayoutError, ParameterError
from adhere.guides import parameters
from adhere.pipelines.studio.request import Request
from adhere.plugins import plugin


def offer(workshop: Workshop) -> None:
    """Put the endpoint on the page that is being built, as `/generate`."""
    gr.api(
        _generate(workshop),
        api_name="generate",
        concurrency_limit=1,
        concurrency_id=QUEUE,
    )


# The inner signature and docstring are what clients see, so they are written for them.
def _generate(workshop: Workshop) -> Callable[..., Any]:
    def generate(
        prompt: str,
        plugins: list[str] | None = None,
        seed: int = 0,
        subjects: list[str] | None = None,
        boxes: dict[str, list[float]] | None = None,
        mask_png: str | None = None,
        legend: dict[str, str] | None = None,
        negative_prompt: str = "",
        steps: int | None = None,
        guidance_scale: float | None = None,
        width: int | None = None,
        height: int | None = None,
        scheduler: str | None = None,
        model: str | None = None,
        compare: bool = False,
    ) -> tuple[dict[str, Any], dict[str, Any] | None, dict[str, Any]]:
        """Make one picture that follows its prompt, without training anything.

        Args:
            prompt: What the picture shows, such as "a red cat and a blue car".
            plugins: Methods to stack, as "name" or "name:key=value,key=value" or JSON text.
            seed: The same seed and settings give the same picture.
            subjects: Phrases of the prompt that must appear; the parser's nouns if left out.
            boxes: Where phrases belong: phrase to [left, top, right, bottom], each from 0 to 1.
            mask_png: Instead of boxes: a PNG in base64 with one colour for each phrase.
            legend: For mask_png: colour (such as "#ff0000") to phrase.
            negative_prompt: What the picture should not show.
            steps: Denoising steps; the model's own number if left out.
            guidance_scale: Classifier-free guidance; the model's own if left out.
            width: In pixels; the model's own if left out.
            height: In pixels; the model's own if left out.
            scheduler: Sampler, such as "ddim" or "euler"; the model's own if left out.
            model: One of the models this app offers; its first if left out.
            compare: Also make the picture without plugins, at the same seed.

        Returns:
            The picture, the picture without plugins (if asked for), and a report.
        """
        request = Request(
            prompt=prompt,
            negative_prompt=negative_prompt,
            steps=steps,
            guidance_scale=guidance_scale,
            width=width,
            height=height,
            scheduler=scheduler,
        ).to_json()
        del request["seed"]
        request |= {
            "plugins": [_plugin(text) for text in plugins or ()],
            "subjects": subjects,
            "layout": _layout(boxes, mask_png, legend),
        }
        data = {"model": model or workshop.models[0], "seeds": [seed], **request}
        made = _made(workshop, setups.from_json(data, workshop.models), compare)
        return _answer(made, compare)

    return _sentences(generate)


def _sentences(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Turn every error into one sentence for the client."""

    @functools.wraps(fn)
    def safely(*args: Any, **kwargs: Any) -> Any:
        try:
            return fn(*args, **kwargs)
        except Exception as wrong:
            raise gr.Error(sentence(wrong), print_exception=False) from wrong

    # Gradio reads the types off the signature, and does not resolve those that are still text.
    signature = inspect.signature(fn, eval_str=True)
    safely.__signature__ = signature  # type: ignore[attr-defined]
    return safely


def _made(workshop: Workshop, setup: Setup, compare: bool) -> Result:
    """The finished result; without `compare` only the guided picture is made."""
    last: Result | None = None
    for event in workshop.run(setup, threading.Event(), plain=compare):
        if isinstance(event, Result):
            last = event
    if last is None or not last.pairs:
        raise ParameterError("the picture was not finished: try again")
    return last


def _answer(result: Result, compare: bool) -> tuple[Any, Any, dict[str, Any]]:
    pair = result.pairs[0]
    before = pair.before if compare else None
    report = {
        "settings": result.setup.to_json(),
        "seconds": round(pair.after.seconds, 3),
        "seconds_plain": round(before.seconds, 3) if before else None,
        "report": pair.after.report,
        "judged": _judged(pair),
    }
    return _file(pair.after.image), _file(before.image) if before else None, report


def _judged(pair: Pair) -> dict[str, Any] | None:
    """What the judge sees in the picture: things with colour and box, and whether it is unsafe."""
    verdict = pair.judged_after
    if verdict is None:
        return None
    things = [
        {"kind": thing.kind, "colour": thing.colour, "box": [int(edge) for edge in thing.box]}
        for thing in verdict.things
    ]
    return {"things": things, "unsafe": bool(verdict.unsafe)}


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


def _file(image: Image.Image) -> dict[str, Any]:
    """A picture as a file in the app's own folder, as clients download it."""
    folder = Path(os.environ["GRADIO_TEMP_DIR"])
    path = gr.processing_utils.save_pil_to_cache(image, str(folder), format="png")
    return {"path": path, "mime_type": "image/png", "meta": {"_type": "gradio.FileData"}}

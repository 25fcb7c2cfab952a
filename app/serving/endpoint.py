"""The endpoint for programs: plain types in, pictures and a report out (`gradio_client`)."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import gradio as gr

from adhere.app.jobs.worker import Shot, Worker, sentence
from adhere.app.outcome import downloads
from adhere.app.serving.asking import Asked, made, report


def offer(worker: Worker) -> None:
    """Put the endpoint on the page that is being built, as `/generate`."""
    gr.api(_generate(worker), api_name="generate", concurrency_limit=None)


# The inner signature and docstring are what clients see, so they are written for them.
def _generate(worker: Worker) -> Callable[..., Any]:
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
        true_cfg_scale: float | None = None,
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
            true_cfg_scale: Classifier-free guidance of a distilled model; its own if left out.
            model: One of the models this app offers; its first if left out.
            compare: Also make the picture without plugins, at the same seed.

        Returns:
            The picture, the picture without plugins (if asked for), and a report.
        """
        asked = Asked(
            plugins, seed, subjects, boxes, mask_png, legend, negative_prompt, steps,
            guidance_scale, width, height, scheduler, true_cfg_scale, model,
        )  # fmt: skip
        result = made(worker, asked.setup(prompt, worker), compare)
        one = result.comparisons[0]
        before = _file(one.before) if one.before else None
        return _file(one.after), before, report(result)

    return _sentences(generate)


def _file(shot: Shot) -> dict[str, Any]:
    path = downloads.picture(shot)
    return {"path": str(path), "mime_type": "image/png", "meta": {"_type": "gradio.FileData"}}


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

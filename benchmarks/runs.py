"""One way to time a call of a pipeline, plain, guided, or by diffusers' own two pipelines."""

from __future__ import annotations

import ctypes
import gc
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from adhere import Guidance, Layout, Memory
from adhere.layout.layout import Region
from adhere.plugins import PLUGINS
from adhere.prompt.phrases import find
from adhere.prompt.tokens import tokenise
from benchmarks import models

PROMPTS = [
    "a red cat and a blue frog",
    "a green bird and a red car",
    "a yellow frog and a blue car",
    "a blue dog and a green bird",
] * 2
"""Two things of a colour each; any batch takes as many from the front."""

MAPS = {"toybox": (16, 16), "medium": (8, 8), "sd15": (16, 16), "tiny": (16, 16)}
"""Size of the maps that diffusers' Attend-and-Excite is told to read."""


def nouns(prompt: str) -> list[str]:
    return [prompt.split(" and ")[0].split()[-1], prompt.split()[-1]]


def layout(prompt: str) -> Layout:
    left, right = nouns(prompt)
    boxes = ((0.0, 0.2, 0.5, 1.0), (0.5, 0.2, 1.0, 1.0))
    return Layout((Region(left, box=boxes[0]), Region(right, box=boxes[1])))


def pipeline(name: str, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Any:
    """The toybox, or a published configuration with random weights."""
    from tests import tiny

    if name == "toybox":
        from adhere.pipelines.toybox import load_toybox

        pipe = load_toybox()
    elif name == "sdxl":
        pipe = tiny.sdxl(
            unet=models.unet(name),
            text_encoder=tiny.text_encoder(768),
            text_encoder_2=tiny.text_encoder(1280, projection=True, seed=1),
        )
    elif name in models.UNETS:
        width = models.UNETS[name]["cross_attention_dim"]
        pipe = tiny.sd1(unet=models.unet(name), text_encoder=tiny.text_encoder(width))
    else:
        pipe = {"tiny": tiny.sd1, "tiny-sdxl": tiny.sdxl}[name]()
    pipe.to(device, dtype)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@dataclass(frozen=True)
class Asked:
    """One call: the pipeline, its prompts and number of steps, with the model's own size."""

    pipe: Any
    name: str
    batch: int
    steps: int

    @property
    def prompts(self) -> list[str]:
        return PROMPTS[: self.batch]

    def options(self) -> dict[str, Any]:
        side = self.pipe.unet.config.sample_size * self.pipe.vae_scale_factor
        generators = [torch.Generator("cpu").manual_seed(k) for k in range(self.batch)]
        options: dict[str, Any] = {"num_inference_steps": self.steps, "generator": generators}
        if self.name != "toybox":
            options |= {"height": side, "width": side}
        return options

    def plain(self) -> Any:
        return self.pipe(self.prompts, output_type="latent", **self.options())

    def guided(self, *plugins: Any, memory: Memory | None = None) -> Any:
        guidance = Guidance(*plugins, memory=memory)
        layouts = [layout(prompt) for prompt in self.prompts]
        subjects = [nouns(prompt) for prompt in self.prompts]
        with guidance.attach(self.pipe, layout=layouts, subjects=subjects):
            return self.plain()

    def published_attend_and_excite(self, thresholds: Mapping[int, float]) -> Any:
        """Half of the steps guided, as ours by default."""
        from diffusers import StableDiffusionAttendAndExcitePipeline

        pipe = self._published(StableDiffusionAttendAndExcitePipeline)
        return pipe(
            self.prompts,
            token_indices=[self._columns(prompt) for prompt in self.prompts],
            attn_res=MAPS[self.name],
            max_iter_to_alter=-(-self.steps // 2),
            thresholds=dict(thresholds),
            output_type="latent",
            **self.options(),
        )

    def published_safe(self) -> Any:
        """The pipeline always decodes; the time of that is a small part, and is told."""
        from diffusers import StableDiffusionPipelineSafe

        pipe = self._published(StableDiffusionPipelineSafe)
        return pipe(
            self.prompts,
            sld_warmup_steps=-(-self.steps // 5),
            output_type="np",
            **self.options(),
        )

    def _published(self, kind: Any) -> Any:
        parts = {
            name: self.pipe.components[name]
            for name in ("vae", "text_encoder", "tokenizer", "unet", "scheduler")
        }
        parts |= {"safety_checker": None, "feature_extractor": None}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pipe = kind(**parts, requires_safety_checker=False)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def _columns(self, prompt: str) -> list[int]:
        length = self.pipe.tokenizer.model_max_length
        seen = tokenise(
            self.pipe.tokenizer,
            prompt,
            encoder="CLIP",
            length=length,
            width=length,
            drop_padding=False,
        )
        spans = [find(prompt, noun) for noun in nouns(prompt)]
        return [p.column for span in spans for p in seen.pieces if p.end == span.end]


def quick(kind: Any, **values: Any) -> Any:
    """A plugin at its defaults; texts that it cannot do without are given."""
    from adhere.guides.parameters import parameters

    for p in parameters(kind):
        if p.kind == tuple[str, ...] and p.default == ():
            values.setdefault(p.name, ("a crown",))
    return kind(**values)


def contenders(asked: Asked, plugins: Sequence[str]) -> dict[str, Callable[[], Any]]:
    """What is timed, by name."""
    excite, safe = PLUGINS["attend-and-excite"], PLUGINS["safe-latent-diffusion"]
    syngen: Any = PLUGINS["syngen"]
    calm: Any = quick(excite, refinements=0)
    found: dict[str, Callable[[], Any]] = {
        "plain": asked.plain,
        "attached, no plugin": asked.guided,
        "attend-and-excite, no refinement": lambda: asked.guided(calm),
        "attend-and-excite + syngen, no refinement": lambda: asked.guided(calm, quick(syngen)),
        "attend-and-excite + safe-latent-diffusion, no refinement": lambda: asked.guided(
            calm, quick(safe)
        ),
        "attend-and-excite, no refinement, checkpointed": lambda: asked.guided(
            calm, memory=Memory(checkpointing=True)
        ),
        **{name: lambda name=name: asked.guided(quick(PLUGINS[name])) for name in plugins},
    }
    if "sdxl" not in asked.name:
        found["diffusers' Attend-and-Excite, no refinement"] = lambda: (
            asked.published_attend_and_excite({})
        )
        found["diffusers' Safe (decodes too)"] = asked.published_safe
    return found


def measure(asked: Asked, plugins: Sequence[str], repeats: int) -> dict[str, dict[str, float]]:
    """Seconds and memory of every contender, in turns, so that a slow minute hits all alike."""
    timed = contenders(asked, plugins)
    device = asked.pipe.device.type
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    peaks: dict[str, list[float]] = {name: [] for name in timed}
    for run in timed.values():
        if device == "cuda":
            run()  # kernels are chosen on first use
    for _ in range(repeats):
        for name, run in timed.items():
            taken, peak = once(run, device)
            seconds[name].append(taken)
            peaks[name].append(peak)
    plain = median(seconds["plain"])
    return {
        name: {
            "seconds_per_image": round(median(times) / asked.batch, 4),
            "of_plain": round(median(times) / plain, 3),
            "peak_mib_above_rest": round(median(peaks[name]), 1),
        }
        for name, times in seconds.items()
    }


def once(run: Callable[[], Any], device: str) -> tuple[float, float]:
    """Seconds of one call, and the highest memory in MiB above what there was before.

    On a CPU it is processor time, which other work on the machine does not lengthen.
    """
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        taken = time.perf_counter() - start
        return taken, (torch.cuda.max_memory_allocated() - before) / 2**20
    rest = _reset_peak()
    start = time.process_time()
    run()
    taken = time.process_time() - start
    return taken, _status("VmHWM") - rest


def _reset_peak() -> float:
    """Forget the process's highest resident size (Linux); returns the present one in MiB.

    What earlier calls have freed is handed back first, or later ones would fill it unseen.
    """
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", "utf-8")
    except (OSError, AttributeError):
        return float("nan")
    return _status("VmRSS")


def _status(key: str) -> float:
    try:
        lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    except OSError:
        return float("nan")
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024


def speedups(found: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The figures that the project has set itself."""
    ours = found["attend-and-excite, no refinement"]
    named = {
        "two energies over one": found["attend-and-excite + syngen, no refinement"],
        "diffusers' Attend-and-Excite over ours": found.get(
            "diffusers' Attend-and-Excite, no refinement"
        ),
    }
    return {
        name: round(one["seconds_per_image"] / ours["seconds_per_image"], 3)
        for name, one in named.items()
        if one is not None
    }

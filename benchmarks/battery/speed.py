"""Time and peak memory of one host: plain, every plugin, stacks, diffusers' own pipelines, and the
ways in which people run pipelines (attention backends, compiled, offloaded).

    python -m benchmarks.battery.speed sd15 --out benchmarks/results/gpu

Writes `speed_<host>.json` after every contender and goes on from it. A contender that fails is kept
with its error: running out of memory is a result.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from adhere.pipelines.studio.output import write_json
from adhere.plugins import PLUGINS
from benchmarks import record, runs
from benchmarks.asked import answered, whole
from benchmarks.battery.hosts import Host, hosts

BACKENDS = ("native", "_native_flash", "flash", "xformers")
STACKS = (
    ("attend-and-excite", "syngen"),
    ("attend-and-excite", "safe-latent-diffusion"),
    ("attend-and-excite", "syngen", "safe-latent-diffusion"),
)
Found = dict[str, Any]


@dataclass(frozen=True)
class Asked(runs.Asked):
    """A call with a host's own options."""

    host: Host

    def options(self) -> dict[str, Any]:
        """The options of one call."""
        if hasattr(self.pipe, "unet"):
            return super().options()
        generators = [torch.Generator("cpu").manual_seed(k) for k in range(self.batch)]
        call = {"num_inference_steps": self.steps, "generator": generators, **self.host.options}
        if isinstance(call.get("negative_prompt"), str):
            call["negative_prompt"] = [call["negative_prompt"]] * self.batch
        return call


def denoiser(pipe: Any) -> Any:
    """The UNet or the transformer."""
    return pipe.unet if hasattr(pipe, "unet") else pipe.transformer


def contenders(asked: Asked, plugins: list[str]) -> dict[str, Callable[[], Any]]:
    """What is timed on a pipeline as it is loaded, by name; those that matter most first."""

    def guided(*names: str) -> Callable[[], Any]:
        made = [_calm(name) for name in names]  # here, where a wrong name is no result
        return lambda: asked.guided(*made)

    found: dict[str, Callable[[], Any]] = {"plain": asked.plain, "attached": asked.guided}
    found |= {name: guided(name) for name in plugins}
    found |= {" + ".join(names): guided(*names) for names in STACKS}
    if asked.name in runs.MAPS:
        found["diffusers' Attend-and-Excite"] = lambda: asked.published_attend_and_excite({})
        found["diffusers' Safe (decodes too)"] = asked.published_safe
    return found


def _calm(name: str) -> Any:
    """A plugin at its defaults without refinement, which depends on the weights."""
    given = {"refinements": 0} if "refinements" in _fields(name) else {}
    return runs.quick(PLUGINS[name], **given)


def _fields(name: str) -> set[str]:
    return set(getattr(PLUGINS[name], "__dataclass_fields__", {}))


def ways(pipe: Any, compiler: str) -> dict[str, Callable[[], None]]:
    """What is done to a pipeline before plain and guided are timed again. The last ones stay."""
    model = denoiser(pipe)
    found: dict[str, Callable[[], None]] = {
        f"backend {name}": functools.partial(model.set_attention_backend, name) for name in BACKENDS
    }

    def offloaded() -> None:
        model.set_attention_backend("native")
        pipe.enable_model_cpu_offload()

    def compiled() -> None:
        pipe.remove_all_hooks()
        pipe.to("cuda" if torch.cuda.is_available() else "cpu")
        model.compile(backend=compiler)

    if torch.cuda.is_available():
        found["CPU offload"] = offloaded
    return found | {"compiled": compiled}


class Kept:
    """A host's results, written after every contender."""

    def __init__(self, path: Path, how: dict[str, Any], until: float = math.inf) -> None:
        self.path, self.how, self.until = path, how, until
        content = json.loads(path.read_text("utf-8")) if path.is_file() else {}
        same = all(content.get("made", {}).get(key) == value for key, value in how.items())
        self.found: Found = content.get("results", {}) if content and same else {}

    def measure(self, name: str, run: Callable[[], Any], batch: int, repeats: int) -> None:
        """Times a contender that is not in the file yet, while there is time."""
        if name in self.found or time.monotonic() > self.until:
            return
        try:
            self.found[name] = _timed(run, self.how["device"], batch, repeats)
        except Exception as error:  # whatever a backend, a compiler or a small memory raises
            self.found[name] = {"error": f"{type(error).__name__}: {error}"[:500]}
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        print(f"{self.path.stem}, {name}: {self.found[name]}", flush=True)
        made = {**record.about(self.how["device"]), **self.how}
        write_json(self.path, {"made": made, "results": self.found})


def _timed(run: Callable[[], Any], device: str, batch: int, repeats: int) -> Found:
    kind = device.split(":")[0]
    run()  # kernels are chosen, and models compiled, on first use
    calls = [runs.once(run, kind) for _ in range(repeats)]
    return {
        "seconds_per_image": round(min(seconds for seconds, _ in calls) / batch, 4),
        "peak_mib_above_rest": round(max(peak for _, peak in calls), 1),
    }


def measure(name: str, device: str, dtype: str, steps: int, repeats: int, toy: bool,
            out: Path, only: list[str] | None = None, until: float = math.inf) -> Path:  # fmt: skip
    """All contenders of a host, or plain and `only` some plugins, at every batch size, until a
    time of `time.monotonic`; returns the file.
    """
    host = hosts(toy)[name]
    pipe = host.make(device, getattr(torch, dtype)).to(device)
    pipe.set_progress_bar_config(disable=True)
    how = {"device": device, "host": name, "dtype": dtype, "steps": steps, "repeats": repeats}
    path = out / f"speed_{name}.json"
    kept = Kept(path, how, until)
    plugins = ["syngen", "safe-latent-diffusion"] if toy else list(PLUGINS)
    if only is not None:
        plugins = only
    for batch in host.batches:
        asked = Asked(pipe, name, batch, steps, host)
        for contender, run in contenders(asked, plugins).items():
            kept.measure(f"batch of {batch}, {contender}", run, batch, repeats)
    asked = Asked(pipe, name, host.batches[0], steps, host)
    guided = contenders(asked, ["attend-and-excite"])
    for way, change in ways(pipe, "eager" if toy else "inductor").items():
        for contender in ("plain", "attend-and-excite"):
            run = _after(change, guided[contender])
            kept.measure(f"{way}, {contender}", run, asked.batch, repeats)
    return path


def _after(change: Callable[[], None], run: Callable[[], Any]) -> Callable[[], Any]:
    """The call, after a change that is made before its first."""
    done: list[bool] = []

    def changed() -> Any:
        if not done:
            change()
            done.append(True)
        return run()

    return changed


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("host")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="float16", help="bfloat16 for the large transformers")
    parser.add_argument("--steps", type=whole, default=28)
    parser.add_argument("--repeats", type=whole, default=3)
    parser.add_argument("--plugins", nargs="*", help="only these; all if left out")
    parser.add_argument("--minutes", type=float, default=math.inf, help="then no other is begun")
    parser.add_argument("--toy", action="store_true", help="the small host of that name")
    parser.add_argument("--out", type=Path, default=record.RESULTS / "gpu")
    given = parser.parse_args()
    until = time.monotonic() + 60 * given.minutes
    measure(given.host, given.device, given.dtype, given.steps, given.repeats, given.toy, given.out,
            given.plugins, until)  # fmt: skip


if __name__ == "__main__":
    answered(main)

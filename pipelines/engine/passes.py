"""Extra passes: the conditional half of a denoiser call, on other latents, read as it goes."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from adhere.errors import ModelError, ParameterError
from adhere.guides.guide import Step
from adhere.guides.maps import Maps, Read, Site
from adhere.pipelines.hooks.call import Call, unwrapped
from adhere.pipelines.hooks.readout import (
    AttentionLayer,
    Bias,
    Pass,
    StopForward,
    native_attention,
    reading,
)

if TYPE_CHECKING:
    from adhere.pipelines.engine.engine import Engine
    from adhere.pipelines.engine.guidance import Memory


class Passes:
    """Makes the extra passes of a run; aimed at one step's call at a time."""

    def __init__(self, engine: Engine, memory: Memory) -> None:
        self.engine, self.memory = engine, memory
        self.texts: dict[str, Tensor] = {}
        self._call: Call | None = None
        self.now: Step | None = None

    def aim(self, call: Call, step: Step) -> None:
        """From now on passes are made at this step, on the conditional rows of this call."""
        rows = self.engine.family.conditional_rows(call, self.engine.run.batch)
        assert rows is not None
        self._call = call.select(rows)
        self.now = step

    def scales(self, reads: Sequence[Read]) -> dict[Read, list[str]]:
        """The layers, by name, that serve each read."""
        found = {}
        for read in reads:
            family = self.engine.family
            layers = family.selectable(read) if self.memory.layers else family.wanted(read)
            names = [layer.name for layer in layers]
            if self.memory.layers:
                chosen = [
                    n for n in names if any(fnmatch.fnmatch(n, g) for g in self.memory.layers)
                ]
                if not chosen:
                    raise ParameterError(
                        f"no {read.kind} attention layer matches {', '.join(self.memory.layers)}; "
                        f"there are: {', '.join(names)}"
                    )
                names = chosen
            found[read] = names
        return found

    def cross_sites(self) -> list[Site]:
        """The cross-attention layers, for methods that give each its own text."""
        grid = self.engine.run.grid
        if not self.engine.family.layer_texts:
            return []
        return [
            Site(
                layer.name,
                layer.kind,
                (-(-grid[0] // layer.factor), -(-grid[1] // layer.factor)),
                0,
            )
            for layer in self.engine.family.attention_layers()
            if layer.kind == "cross"
        ]

    def read(
        self, latents: Tensor, images: Sequence[int], reads: Sequence[Read], step: Step
    ) -> list[Maps]:
        """One conditional pass on some images, stopped at the last layer read.

        Args:
            latents: `Float[images channels h w]` unscaled; differentiable if it requires grad.
            images: which images of the run they are.
            reads: what will be looked at.
            step: for guides that bias the attention.
        """
        engine, family = self.engine, self.engine.family
        assert self._call is not None
        call = self._call
        if list(images) != list(range(engine.run.batch)):
            # A look may be at fewer images, or at several noises of the same one.
            index = torch.tensor(images, device=latents.device)
            call = call.select(index)
        given = call.values[family.leading]
        scaled = engine.scaled(latents, call).to(given.dtype)
        call = family.with_latents(call.normal(), scaled)
        scales = self.scales(reads)
        texts = {name: rows[list(images)] for name, rows in self.texts.items()}
        self.running = Pass(
            reader=family,
            grid=engine.run.grid,
            rows=slice(0, len(images)),
            images=tuple(images),
            read=frozenset(name for names in scales.values() for name in names),
            biased=self._biased(),
            bias=engine.bias_of(step),
            texts=texts,
            stop=True,
        )
        with ExitStack() as stack:
            stack.enter_context(self.eager())
            stack.enter_context(native_attention(family.denoiser))
            stack.enter_context(reading(self.running, family.modules(), self._hooked()))
            with suppress(StopForward):
                family.denoiser(**family.arguments(call))
        if len(self.running.layers) < len(self.running.read):
            unread = sorted(self.running.read - set(self.running.layers))
            raise ModelError(
                f"attention of {unread[0]} could not be read: its processor does not end in "
                "PyTorch's scaled_dot_product_attention; use the denoiser's default processors"
            )
        through = any(layer.probabilities.requires_grad for layer in self.running.layers.values())
        if latents.requires_grad and torch.is_grad_enabled() and not through:
            raise ModelError(
                "no gradient comes through the denoiser's attention (some quantised layers let "
                "none through); use the model unquantised, or plugins without a gradient"
            )
        engine.report.passed(images)
        return engine.maps_of(self.running, images, scales)

    def own(
        self, call: Call, rows: slice, scales: dict[Read, list[str]], bias: Bias | None
    ) -> Pass:
        """The denoiser's own pass, read or biased on its conditional rows."""
        batch = self.engine.run.batch
        texts = {}
        for name, given in self.texts.items():
            full = call.values[self.engine.family.text].clone()
            full[rows] = given.to(full.dtype)
            texts[name] = full
        return Pass(
            reader=self.engine.family,
            grid=self.engine.run.grid,
            rows=rows,
            images=tuple(range(batch)),
            read=frozenset(name for names in scales.values() for name in names),
            biased=self._biased() if bias is not None else frozenset(),
            bias=bias,
            texts=texts,
        )

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """The backward pass: checkpointed blocks run again and must meet the same attention."""
        if not getattr(self.engine.family.denoiser, "is_gradient_checkpointing", False):
            yield
            return
        running = self.running
        running.replaying = True
        with reading(running, self.engine.family.modules(), self._hooked()):
            yield

    def eager(self) -> Any:
        """Compiled denoisers run uncompiled where their insides are looked at."""
        denoiser = self.engine.family.denoiser
        compiled = unwrapped(denoiser) is not denoiser or denoiser._compiled_call_impl is not None
        return torch.compiler.set_stance("force_eager") if compiled else nullcontext()

    def look(self, noise: Tensor, sigma: float) -> _Look:
        return _Look(self, noise, sigma)

    def reads_of_all(self) -> list[Read]:
        return sorted({read for guide in self.engine.guides for read in guide.reads}, key=str)

    def _hooked(self) -> tuple[AttentionLayer, ...]:
        return self.engine.family.attention_layers()

    def _biased(self) -> frozenset[str]:
        return frozenset(layer.name for layer in self.engine.family.attention_layers())


class _Look:
    """What an initial-noise method sees: the first timestep's maps for any noise."""

    def __init__(self, passes: Passes, noise: Tensor, sigma: float) -> None:
        self.passes, self.sigma = passes, sigma
        assert passes.now is not None
        self.step = passes.now
        self._seeds = [_seed(one) for one in noise]
        self._shape, self._device, self._dtype = noise.shape[1:], noise.device, noise.dtype
        self._replay = ExitStack()

    def __enter__(self) -> None:
        """The guide differentiates by itself, so checkpointed blocks may run again at any time."""

    def __exit__(self, *failure: object) -> None:
        self._replay.close()

    def __call__(self, noise: Tensor, images: Sequence[int] | None = None) -> Maps:
        chosen = range(len(self._seeds)) if images is None else images
        reads = self.passes.reads_of_all()
        self._replay.close()
        maps = self.passes.read(noise * self.sigma, list(chosen), reads, self.step)[0]
        self._replay.enter_context(self.passes.replayed())
        return maps

    def fresh(self, images: Sequence[int], draw: int) -> Tensor:
        """Noise that depends on the image's own starting noise and `draw` only, so a batch equals
        its images made one by one."""
        drawn = []
        for image in images:
            generator = torch.Generator("cpu").manual_seed(self._seeds[image] + draw)
            drawn.append(torch.randn(self._shape, generator=generator))
        return torch.stack(drawn).to(self._device, self._dtype)


def _seed(noise: Tensor) -> int:
    # Its signs, so that the same noise in half precision has the same siblings.
    data = (noise.detach() > 0).cpu().numpy().tobytes()
    return int.from_bytes(hashlib.sha256(data).digest()[:6], "big")

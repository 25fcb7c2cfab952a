"""Trains a noise network: collects pairs of noises, keeps those that a verifier likes, learns them.

    e      = e_0 + s (e_c - e_0)          predicted in the noise x_T, with guidance s
    x_T-1  = DDIM step of x_T by e        e_c': predicted in it under the prompt, without guidance
    x_T'   = DDIM inversion of x_T-1 by e_c'

(Zhou et al., arXiv:2411.09502, sec. 3.1.) A pair is kept where the picture that begins at x_T' has
the higher score. The pairs lie in parts beside the file, so that a process goes on where it was
stopped; their seeds begin at a million, for tests and studies use small ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from adhere.errors import ParameterError
from adhere.guides.stored import PROBE, Stored, write
from adhere.pipelines.families import family_of
from adhere.pipelines.hooks.weights import fingerprint
from adhere.pipelines.studio.calling import check_size
from adhere.pipelines.studio.studio import Studio
from adhere.pipelines.tools.inversion import Denoiser, refuse
from adhere.pipelines.tools.parts import Parts, hash_of
from adhere.plugins.mathematics.noise_library import noise_of
from adhere.plugins.mathematics.noise_network import MAKE, NETWORK, NoiseNetwork
from adhere.verifiers import Verifier
from adhere.verifiers.scoring import score

LEAST = 4
"""Prompts, where a verifier keeps about half of the pairs."""
PART = 16
"""Pairs in a part: what is lost at the most when a process is killed."""
PART_KIND = "part of a noise network's pairs"
FIRST_SEED = 1_000_000
HELD_OUT = 0.1
"""Share of the pairs that are not trained on, but measured."""


@dataclass(frozen=True)
class Pairs:
    """Noises, what they are to become, and the mean embeddings of their prompts."""

    given: Float[Tensor, "n channels h w"]
    golden: Float[Tensor, "n channels h w"]
    words: Float[Tensor, "n words"]

    def __len__(self) -> int:
        return len(self.given)

    def some(self, places: Tensor | slice) -> Pairs:
        """Some of them."""
        return Pairs(self.given[places], self.golden[places], self.words[places])


class Collector:
    """Makes the pairs of some prompts, part by part.

    Args:
        verifier: by which pairs are chosen; None for all of them.
        out: the file that is to be; its parts lie in a folder beside it.
        size: width and height of the pictures in pixels; the model's own if None, as for `steps`.

    Raises:
        ModelError: the model's pictures cannot be inverted.
        ParameterError: there are too few prompts, or no model draws pictures of that size.
    """

    def __init__(
        self,
        studio: Studio,
        prompts: Sequence[str],
        verifier: tuple[str, Verifier] | None,
        out: Path,
        size: tuple[int | None, int | None] = (None, None),
        steps: int | None = None,
    ) -> None:
        refuse(studio.pipe)
        check_size(*size)
        least = 2 if verifier is None else LEAST
        if len(prompts) < least:
            raise ParameterError(
                f"{len(prompts)} texts are too few for pairs to learn from and one to be held out; "
                f"give {least} or more (--size, --texts)"
            )
        self.studio, self.prompts = studio, list(prompts)
        self.verifier = None if verifier is None else verifier[1]
        unet, cell = studio.pipe.unet, studio.pipe.vae_scale_factor
        w, h = (unet.config.sample_size if side is None else side // cell for side in size)
        self.shape = (unet.config.in_channels, h, w)
        self.scale, self.steps = studio.guidance_scale or 1.0, steps or studio.steps
        self.about = {
            "model": studio.model,
            "weights": fingerprint(unet),
            "latents": "x".join(map(str, self.shape)),
            "steps": str(self.steps),
            "texts": hash_of(self.prompts),
            "verifier": "none" if verifier is None else verifier[0],
        }
        # A part's own texts: it is the same one when more texts are given.
        self.kept = Parts(out, PART_KIND, MAKE, self.about)

    def parts(self) -> list[range]:
        """The places of each part's prompts."""
        count = len(self.prompts)
        return [range(k, min(k + PART, count)) for k in range(0, count, PART)]

    def missing(self) -> list[range]:
        """The parts that are still to be made.

        Raises:
            ParameterError: those that are there were made otherwise.
        """
        return [part for part in self.parts() if self._found(part) is None]

    @torch.no_grad()
    def make(self, part: range, tick: Callable[[float], None]) -> None:
        """One part, from its noises to its file."""
        rows = []
        for k in part:
            rows.append(self._pair(self.prompts[k], noise_of(FIRST_SEED + k, self.shape)[None]))
            tick(1)
        names = ("given", "golden", "words", "gain")
        found = [torch.cat(column) for column in zip(*rows, strict=True)]
        self.kept.keep(part, self._texts(part), dict(zip(names, found, strict=True)))

    def chosen(self) -> Pairs:
        """Of all pairs those that are to be learnt.

        Raises:
            ParameterError: there are none; or parts were made for another file of this name.
        """
        parts = [found for part in self.parts() if (found := self._found(part))]
        assert len(parts) == len(self.parts()), "make what is `missing` first"
        whole = {
            name: torch.cat([part.tensors[name] for part in parts]) for name in parts[0].tensors
        }
        kept = whole["gain"] > 0
        if not kept.any():
            raise ParameterError(
                f"of {len(kept)} pairs the verifier likes none better; give more (--size), another "
                "--verifier, or --verifier none"
            )
        return Pairs(whole["given"], whole["golden"], whole["words"]).some(kept)

    def _pair(self, prompt: str, noise: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        pipe = self.studio.pipe
        denoiser = Denoiser(pipe, ["", prompt], self.steps)
        golden = redenoised(denoiser, noise.to(pipe.device), self.scale)
        words = denoiser.text["encoder_hidden_states"][1:].float().mean(dim=1)
        gain = 1.0 if self.verifier is None else self._gain(prompt, noise, golden)
        return noise, golden.cpu(), words.cpu(), torch.tensor([gain])

    def _gain(self, prompt: str, noise: Tensor, golden: Tensor) -> float:
        """By how much the verifier likes the picture of the one noise better, if it does."""
        assert self.verifier is not None
        pipe = self.studio.pipe
        cell, (_, h, w) = pipe.vae_scale_factor, self.shape
        images = pipe(
            [prompt] * 2,
            latents=torch.cat([noise.to(golden), golden]).to(pipe.unet.dtype),
            num_inference_steps=self.steps,
            guidance_scale=self.scale,
            height=h * cell,
            width=w * cell,
        ).images
        before, after = score(self.verifier, images, [prompt] * 2).scores
        return after - before if after > before else 0.0

    def _texts(self, part: range) -> Sequence[str]:
        return self.prompts[part.start : part.stop]

    def _found(self, part: range) -> Stored | None:
        return self.kept.found(part, self._texts(part))


def redenoised(
    denoiser: Denoiser, noise: Float[Tensor, "1 c h w"], scale: float
) -> Float[Tensor, "1 c h w"]:
    """A noise after a step of denoising with guidance and one of inversion without.

    Args:
        denoiser: its texts are the empty one and the prompt.
    """
    top = denoiser.steps
    plain, told = denoiser.noise(top, [noise, noise], [0, 1])
    moved = denoiser.moved(noise, plain + scale * (told - plain), top, top - 1)
    (back,) = denoiser.noise(top, [moved], [1])
    return denoiser.moved(moved, back, top - 1, top)


@dataclass(frozen=True)
class Plan:
    """How a network is trained on pairs."""

    steps: int = 1000
    batch: int = 32
    rate: float = 1e-3
    width: int = 64
    seed: int = 0


def trained(pairs: Pairs, plan: Plan, tick: Callable[[float], None]) -> tuple[NoiseNetwork, float]:
    """A network that has learnt pairs, and which share of the move it tells of those held out.

    The share is 1 - |net - x'|^2 / |x - x'|^2: 0 for the given noise, 1 for x' itself.
    """
    held = max(1, round(HELD_OUT * len(pairs)))
    own, others = pairs.some(slice(0, len(pairs) - held)), pairs.some(slice(-held, None))
    if not len(own):
        raise ParameterError("a single pair was kept, and one is held out; give more (--size)")
    channels, h, w = pairs.given.shape[1:]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        network = NoiseNetwork((channels, h, w), pairs.words.shape[1], plan.width)
    draw = torch.Generator().manual_seed(plan.seed)
    optimizer = torch.optim.AdamW(network.parameters(), plan.rate)
    for _ in range(plan.steps):
        some = own.some(torch.randint(len(own), (plan.batch,), generator=draw))
        loss = (network(some.given, some.words) - some.golden).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        tick(1)
    with torch.no_grad():
        left = (network(others.given, others.words) - others.golden).square().sum()
        before = (others.given - others.golden).square().sum()
    return network.requires_grad_(False), 1 - float(left / before)


def learnt(
    collector: Collector, plan: Plan, out: Path, tick: Callable[[float], None]
) -> tuple[int, float]:
    """Train a network on what was collected, and write its file.

    Returns:
        from how many pairs, and which share of the move it tells of those held out.
    """
    pairs = collector.chosen()
    network, told = trained(pairs, plan, tick)
    about = {**collector.about, "width": str(plan.width), "pairs": str(len(pairs))}
    write(out, NETWORK, _tensors(network, collector.studio), about)
    return len(pairs), told


def _tensors(network: NoiseNetwork, studio: Studio) -> dict[str, Tensor]:
    """What a network's file holds."""
    embeds = family_of(studio.pipe).encode([PROBE]).values["encoder_hidden_states"]
    probe = embeds[0].detach().float().mean(dim=0).cpu()
    return {**network.state_dict(), "probe": probe}

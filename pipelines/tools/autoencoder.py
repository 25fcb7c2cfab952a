"""Trains k-sparse autoencoders of a text encoder's hidden states (Gao et al., arXiv:2406.04093).

    f  = top-k of W_enc (h - b_pre) + b, those above 0;   h' = W_dec f + b_pre
    L  = |h - h'|^2 / variance of h  +  1/32 |r - r'|^2 / variance of r,   r = h - h'

r' is what features that lie idle make of what is left, so that they find work; the columns of W_dec
keep length one. Every token of every text is a sample, padding too, as in kim-dahye/steerers.
Differs from it: b_pre begins at the mean, not the geometric median; k and idleness are measured by
the size of the model and of the training, which is short.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from adhere.errors import ParameterError
from adhere.guides.stored import PROBE, Stored
from adhere.pipelines.families import family_of
from adhere.pipelines.hooks.hidden import changed, layers_of
from adhere.plugins.mathematics.autoencoder import WEIGHTS, weights_of

AUXILIARY = 1 / 32
"""Weight of the idle features' loss, as published."""
HELD_OUT = 0.1
"""Share of the texts that are not trained on, but measured."""
TEXTS_AT_ONCE = 64

States = Float[Tensor, "states channels"]


@dataclass(frozen=True)
class Plan:
    """How an autoencoder is trained.

    Attributes:
        encoder: the pipeline's name for the text encoder.
        layer: whose output is learnt; None for layer 9 of 12 in SD 1.x, as far along in others.
        expansion: features for each channel of the states.
        k: features of a state; None for 32, or a sixteenth of the channels where that is less.
        steps, batch, rate: of the training; a batch is of states.
        idle: steps after which a feature that was not used is given work.
    """

    encoder: str = "text_encoder"
    layer: int | None = None
    expansion: int = 4
    k: int | None = None
    steps: int = 1500
    batch: int = 1024
    rate: float = 1e-3
    seed: int = 0
    idle: int = 100

    def place(self, pipe: Any) -> int:
        """The layer, counted from 0."""
        count = len(layers_of(pipe, self.encoder))
        return round(10 / 12 * count) - 1 if self.layer is None else self.layer

    def sparsity(self, channels: int) -> int:
        """How many features a state is made of."""
        return min(32, max(1, channels // 16)) if self.k is None else self.k


@torch.no_grad()
def hidden_states(pipe: Any, texts: Sequence[str], encoder: str, layer: int) -> States:
    """What a layer gives out for every token of some texts, on the CPU."""
    seen: list[Tensor] = []

    def keep(hidden: Tensor) -> Tensor:
        seen.append(hidden.float().cpu().flatten(0, 1))
        return hidden

    with changed(pipe, encoder, layer, keep):
        family_of(pipe).encode(list(texts))
    return torch.cat(seen)


class Network(nn.Module):
    """The autoencoder while it learns, in the tensors' published names."""

    def __init__(self, channels: int, features: int, k: int, seed: int) -> None:
        super().__init__()
        self.k = k
        draw = torch.Generator().manual_seed(seed)
        directions = torch.nn.functional.normalize(torch.randn(features, channels, generator=draw))
        self.encoder = nn.Linear(channels, features, bias=False)
        self.decoder = nn.Linear(features, channels, bias=False)
        self.encoder.weight.data = directions.clone()
        self.decoder.weight.data = directions.T.clone()
        self.pre_bias = nn.Parameter(torch.zeros(channels))
        self.latent_bias = nn.Parameter(torch.zeros(features))

    def raw(self, states: States) -> Float[Tensor, "states features"]:
        """The features before the largest are chosen."""
        found: Tensor = self.encoder(states - self.pre_bias) + self.latent_bias
        return found

    def best(
        self, raw: Float[Tensor, "states features"], k: int
    ) -> tuple[Float[Tensor, "states k"], Int[Tensor, "states k"]]:
        """The largest features above 0, and which they are."""
        values, places = raw.topk(min(k, raw.shape[1]), dim=1)
        return values.relu(), places

    def decoded(self, values: Tensor, places: Tensor) -> States:
        """What some features add up to, without `pre_bias`."""
        sparse = torch.zeros(len(values), self.decoder.in_features).to(values)
        found: Tensor = self.decoder(sparse.scatter(1, places, values))
        return found

    def made(self, states: States) -> States:
        """The states as far as k features tell them."""
        return self.decoded(*self.best(self.raw(states), self.k)) + self.pre_bias

    @torch.no_grad()
    def explained(self, states: States) -> float:
        """The share of the states' variance that the features tell."""
        left = torch.cat([part - self.made(part) for part in states.split(4096)])
        return 1 - float(left.square().sum() / (states - states.mean(dim=0)).square().sum())

    @torch.no_grad()
    def idle(self, states: States) -> float:
        """The share of the features that no state has."""
        used = torch.zeros(self.decoder.in_features, dtype=torch.bool)
        for part in states.split(4096):
            values, places = self.best(self.raw(part), self.k)
            used[places[values > 0]] = True
        return float((~used).double().mean())


class Trainer:
    """Trains one autoencoder on states that are all in memory."""

    def __init__(self, states: States, plan: Plan, begin: Stored | None = None) -> None:
        channels = states.shape[1]
        self.states, self.plan = states, plan
        k = plan.sparsity(channels)
        if k > plan.expansion * channels:
            raise ParameterError(
                f"k={k}: a state cannot be made of more features than the "
                f"{plan.expansion * channels} there are; give fewer"
            )
        self.network = Network(channels, plan.expansion * channels, k, plan.seed)
        self.network.pre_bias.data = states.mean(dim=0)
        if begin is not None:
            self._take_over(begin, channels)
        self.variance = (states - states.mean(dim=0)).square().mean().clamp_min(1e-12)
        self.optimizer = torch.optim.Adam(self.network.parameters(), plan.rate, eps=6.25e-10)
        self.unused = torch.zeros(self.network.latent_bias.shape[0], dtype=torch.long)

    def _take_over(self, begin: Stored, channels: int) -> None:
        weights = dict(zip(WEIGHTS, weights_of(begin), strict=True))
        features, width = weights["encoder.weight"].shape
        if width != channels:
            raise ParameterError(
                f"{str(begin.path)!r} is for hidden states of {width} channels, and those of this "
                f"{self.plan.encoder} have {channels}; give the model, encoder and layer that it "
                "was made for"
            )
        self.network = Network(width, features, self.plan.sparsity(width), 0)
        self.network.load_state_dict(weights)

    def steps(self) -> Iterator[float]:
        """Train, a step at a time; yields each step's loss."""
        draw = torch.Generator().manual_seed(self.plan.seed)
        for _ in range(self.plan.steps):
            yield self._step(torch.randint(len(self.states), (self.plan.batch,), generator=draw))

    def _step(self, chosen: Int[Tensor, " batch"]) -> float:
        states, network = self.states[chosen], self.network
        raw = network.raw(states)
        values, places = network.best(raw, network.k)
        left = states - network.decoded(values, places) - network.pre_bias
        loss = left.square().mean() / self.variance
        self.unused += 1
        self.unused[places[values > 0]] = 0
        idle = self.unused > self.plan.idle
        if idle.any():
            loss = loss + AUXILIARY * self._of_idle(raw, idle, left.detach())
        self.optimizer.zero_grad()
        loss.backward()
        self._keep_lengths()
        self.optimizer.step()
        columns = network.decoder.weight.data
        columns /= columns.norm(dim=0).clamp_min(1e-8)
        return float(loss.detach())

    def _of_idle(self, raw: Tensor, idle: Tensor, left: States) -> Tensor:
        """How far idle features are from telling what is left."""
        of_idle = raw.masked_fill(~idle, -torch.inf)
        values, places = self.network.best(of_idle, min(8 * self.network.k, int(idle.sum())))
        error = (self.network.decoded(values, places) - left).square().mean()
        return error / (left - left.mean(dim=0)).square().mean().clamp_min(1e-12)

    def _keep_lengths(self) -> None:
        """Take from the columns' gradient what would only lengthen them."""
        weight = self.network.decoder.weight
        assert weight.grad is not None
        weight.grad -= (weight.grad * weight.data).sum(dim=0) * weight.data


@dataclass(frozen=True)
class Learnt:
    """What came of a training: the file's tensors and its words, and how well it tells states.

    Attributes:
        explained: the share of the variance of the states of texts that were held out; None where
            there were no texts.
        idle: the share of features that no state of theirs has.
    """

    tensors: dict[str, Tensor]
    about: dict[str, str]
    explained: float | None = None
    idle: float | None = None


def check(pipe: Any, plan: Plan, begin: Stored | None = None) -> None:
    """Refuse what cannot be learnt before many texts are read for it.

    Raises:
        ModelError: there is no such encoder or layer.
        ParameterError: a state cannot be made of so many features, or `begin` is for other states.
    """
    Trainer(hidden_states(pipe, [PROBE], plan.encoder, plan.place(pipe)), plan, begin)


def states_of(pipe: Any, texts: Sequence[str], plan: Plan, tick: Callable[[float], None]) -> States:
    """The hidden states that a plan is about, text by text; `tick` is told of each text."""
    layer, parts = plan.place(pipe), list[States]()
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        some = texts[start : start + TEXTS_AT_ONCE]
        parts.append(hidden_states(pipe, some, plan.encoder, layer))
        tick(len(some))
    return torch.cat(parts)


def learnt(
    pipe: Any, states: States, plan: Plan, begin: Stored | None, tick: Callable[[float], None]
) -> Learnt:
    """Train an autoencoder on states of a pipeline's encoder; the last of them are held out.

    Args:
        begin: weights to go on from.
        tick: told of each step that is done.
    """
    split = round((1 - HELD_OUT) * len(states))
    trainer = Trainer(states[:split], plan, begin)
    for _ in trainer.steps():
        tick(1)
    found = trainer.network
    explained, idle = found.explained(states[split:]), found.idle(states[split:])
    about = {"steps": str(plan.steps), "explained": f"{explained:.4f}", **_place(pipe, plan)}
    return Learnt(_tensors(pipe, found, plan), {**about, "k": str(found.k)}, explained, idle)


def taken_over(pipe: Any, plan: Plan, begin: Stored) -> Learnt:
    """Weights of a pipeline's encoder as they are, with what tells the encoder from others."""
    probe = hidden_states(pipe, [PROBE], plan.encoder, plan.place(pipe))
    found = Trainer(probe, plan, begin).network
    return Learnt(_tensors(pipe, found, plan), {**_place(pipe, plan), "k": str(found.k)})


def _place(pipe: Any, plan: Plan) -> dict[str, str]:
    return {"encoder": plan.encoder, "layer": str(plan.place(pipe))}


def _tensors(pipe: Any, network: Network, plan: Plan) -> dict[str, Tensor]:
    weights = {name: network.state_dict()[name] for name in WEIGHTS}
    return {**weights, "probe": hidden_states(pipe, [PROBE], plan.encoder, plan.place(pipe))}

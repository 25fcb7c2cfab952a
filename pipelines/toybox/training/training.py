"""The training loop all stages share: seeded, logged, and resumable after a kill at any point.

Every batch is drawn from a generator seeded by (seed, step), so a run that was killed and resumed
makes the same updates as one that was not. Files are written under a temporary name and renamed:
an earlier checkpoint is never lost.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn

from adhere.files import replaced
from adhere.pipelines.hooks.compat import move_towards
from adhere.pipelines.toybox.errors import ToyboxError
from adhere.pipelines.toybox.training.muon import Muon
from adhere.pipelines.toybox.training.parallel import Team

MUON_RATE = 0.02
"""Learning rate of Muon's steps, each of which has singular values of about 1."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary name in the same folder and renames it to `path` when the block
    succeeds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        place = replaced(path)
        yield temporary
        os.replace(temporary, place)
    except OSError as error:
        raise ToyboxError(
            f"could not write {path}: {error.strerror or error}; what was there before is kept"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def save_state(state: dict[str, Any], path: Path) -> None:
    """Writes a training state atomically."""
    with replacing(path) as temporary:
        try:
            torch.save(state, temporary)
        except RuntimeError as error:  # how torch's zip writer reports a full disk
            raise OSError(str(error)) from error


def load_state(path: Path) -> dict[str, Any]:
    """Reads a training state (tensors and plain values only); `ToyboxError` if damaged."""
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ToyboxError(f"no checkpoint at {path}; start without --resume") from error
    except Exception as error:  # torch raises many kinds for a damaged zip or pickle
        raise ToyboxError(
            f"the checkpoint {path} is damaged ({type(error).__name__}: {error}); "
            "delete it and start again without --resume"
        ) from error
    return state


def write_json(value: object, path: Path) -> None:
    """Writes JSON atomically."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


@dataclass
class Job:
    """One stage's training: what to optimise, for how many steps, and where its state lives.

    The end is that of `steps`, or of `most_seconds` where that comes first.
    `loss` gives one number, or several of which the sum is minimised and the first is logged.
    AdamW trains all parameters, but Muon (Jordan et al. 2024; `MUON_RATE`) the matrices whose name
    `orthogonal` accepts. `about` says what is learnt: a run that learns something else does not go
    on from its state.
    """

    name: str
    folder: Path
    model: nn.Module
    loss: Callable[[torch.Generator], Tensor]
    steps: int
    batch: int
    learning_rate: float
    seed: int = 0
    warmup: int = 100
    weight_decay: float = 0.01
    ema: float = 0.0
    orthogonal: Callable[[str], bool] | None = None
    most_seconds: float = math.inf
    checkpoint_seconds: float = 90.0
    quiet: bool = False
    on_checkpoint: Callable[[int], None] | None = None
    team: Team = field(default_factory=Team)
    curve: list[tuple[int, float]] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def state_path(self) -> Path:
        """Where the resumable state is kept."""
        return self.folder / f"{self.name}.state.pt"


def step_generator(seed: int, step: int) -> torch.Generator:
    """The source of all randomness of one step."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


def rate_at(job: Job, step: int, seconds: float = 0.0) -> float:
    """Share of the learning rate: linear warm-up, then a cosine down to 2 % at the planned end, of
    steps or of time, whichever is nearer.
    """
    if step < job.warmup:
        return (step + 1) / job.warmup
    progress = (step - job.warmup) / max(1, job.steps - job.warmup)
    progress = max(progress, seconds / job.most_seconds)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def optimisers_of(job: Job) -> list[tuple[torch.optim.Optimizer, float]]:
    """What updates the parameters, each with its learning rate."""
    wanted = {k: p for k, p in job.model.named_parameters() if p.requires_grad}
    muon = [k for k in wanted if job.orthogonal is not None and job.orthogonal(k)]
    rest = [p for k, p in wanted.items() if k not in muon]
    adam = torch.optim.AdamW(
        rest, lr=job.learning_rate, weight_decay=job.weight_decay, betas=(0.9, 0.99), fused=True
    )
    found: list[tuple[torch.optim.Optimizer, float]] = [(adam, job.learning_rate)]
    if muon:
        matrices = [wanted[k] for k in muon]
        decay = job.weight_decay
        found.append((Muon(matrices, lr=MUON_RATE, weight_decay=decay), MUON_RATE))
    return found


class Average:
    """An exponential moving average of a model's parameters, warmed up so that it starts useful."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.shadow = {k: v.detach().clone().float() for k, v in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        current = model.state_dict()
        shadows = list(self.shadow.values())
        move_towards(shadows, [current[k].float() for k in self.shadow], 1 - decay)


class Trainer:
    """Runs a job from where it stands to its planned end."""

    def __init__(self, job: Job, resume: bool) -> None:
        self.job = job
        self.optimisers = optimisers_of(job)
        self.average = Average(job.model, job.ema) if job.ema else None
        self.step = 0
        self.seconds = 0.0
        if resume and job.state_path.exists():
            self._restore(load_state(job.state_path))

    def _restore(self, state: dict[str, Any]) -> None:
        self._check(state.get("about", {}))
        try:
            self.job.model.load_state_dict(state["model"])
            for (optimiser, _), kept in zip(self.optimisers, state["optimisers"], strict=True):
                optimiser.load_state_dict(kept)
            if self.average is not None:
                self.average.shadow = state["average"]
        except (KeyError, RuntimeError, ValueError) as error:
            raise ToyboxError(
                f"{self.job.state_path} is from another configuration ({error}); "
                "train with the same options or start without --resume"
            ) from error
        # The batch may change between resumptions; the schedule counts samples.
        ratio = state["batch"] / self.job.batch
        self.step, self.seconds = round(state["step"] * ratio), state["seconds"]
        self.job.curve[:] = [(round(s * ratio), float(v)) for s, v in state["curve"]]

    def _check(self, learnt: dict[str, Any]) -> None:
        """Refuses a state that learnt something else."""
        about = self.job.about
        if learnt != about:
            changed = [k for k in {**learnt, **about} if learnt.get(k) != about.get(k)]
            changes = ", ".join(f"{k} {learnt.get(k)} (now {about.get(k)})" for k in changed)
            raise ToyboxError(
                f"{self.job.state_path} learnt from another world: {changes}; train with the same "
                "rates, or start from its weights with --init and without --resume"
            )

    def save(self) -> None:
        """Writes the state and the loss curve; an interrupted write leaves the last one."""
        if self.job.team.rank:
            return
        planned = self.step if self.seconds >= self.job.most_seconds else self.job.steps
        state = {
            "model": self.job.model.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser, _ in self.optimisers],
            "average": self.average.shadow if self.average else {},
            "step": self.step,
            "batch": self.job.batch,
            "seconds": self.seconds,
            "curve": [list(point) for point in self.job.curve],
            "about": self.job.about,
        }
        save_state(state, self.job.state_path)
        write_json(
            {
                "stage": self.job.name,
                "step": self.step,
                "samples": self.step * self.job.batch,
                "planned_samples": planned * self.job.batch,
                "seconds": round(self.seconds, 1),
                "seed": self.job.seed,
                "batch": self.job.batch,
                "learning_rate": self.job.learning_rate,
                "about": self.job.about,
                "loss": [[s, round(v, 5)] for s, v in self.job.curve],
            },
            self.job.folder / f"{self.job.name}.log.json",
        )

    def _update(self) -> Tensor:
        share = rate_at(self.job, self.step, self.seconds)
        for optimiser, rate in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate * share
        team = self.job.team
        draw = self.step * team.workers + team.rank
        loss = self.job.loss(step_generator(self.job.seed, draw))
        loss.sum().backward()
        team.average_gradients(self.job.model)
        nn.utils.clip_grad_norm_(self.job.model.parameters(), 1.0)
        for optimiser, _ in self.optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.step += 1
        if self.average is not None:
            self.average.update(self.job.model, self.step)
        return loss.detach().reshape(-1)[0]

    def run(self, stop_after: int | None = None) -> None:
        """Trains to the planned end, or to `stop_after` steps (the tests' kill)."""
        job = self.job
        end = min(job.steps, stop_after or job.steps)
        started, saved, mean = time.monotonic(), time.monotonic(), None
        note = ""
        before = self.seconds
        with _bar(job.quiet or job.team.rank > 0) as bar:
            task = bar.add_task(job.name, total=job.steps, completed=self.step, note="")
            while self.step < end and self.seconds < job.most_seconds:
                value = self._update()
                mean = value if mean is None else mean.lerp(value, 0.02)
                now = time.monotonic()
                self.seconds = before + now - started
                # The loss is read seldom: an accelerator that is waited for has nothing to do.
                if self.step % 100 == 0 or self.step == end:
                    job.curve.append((self.step, float(mean)))
                if self.step % 20 == 0 or self.step == end:
                    rate = self.step * job.batch / max(1e-9, self.seconds)
                    note = f"loss {float(mean):.4f}  {rate:.0f} samples/s"
                bar.update(task, completed=self.step, note=note)
                if now - saved > job.checkpoint_seconds:
                    self.save()
                    saved = now
                    if job.on_checkpoint is not None:
                        job.on_checkpoint(self.step)
        self.save()

    def best(self) -> dict[str, Tensor]:
        """The averaged weights if an average is kept, else the current ones."""
        return self.average.shadow if self.average else self.job.model.state_dict()


def _bar(quiet: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}  {task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        disable=quiet,
        refresh_per_second=1,
    )

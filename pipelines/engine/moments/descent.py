"""Going downhill on the guides' energies: one pass and, where their rules agree, one backward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from adhere.guides.guide import Energy, Guide, Step
from adhere.guides.maps import Maps
from adhere.pipelines.engine.moments.passes import Passes
from adhere.pipelines.engine.state import State
from adhere.pipelines.hooks.denoiser_call import single
from adhere.pipelines.hooks.schedulers import levels

HALF_SCALE = 2.0**10
"""Half precision gradients of softmaxed maps underflow, so the loss is scaled up meanwhile."""

Gradient = Callable[[Tensor], Tensor]


@dataclass
class Update:
    """What one pass found for some images.

    `before`, `after`: the changes to subtract, `Float[images channels h w]` in the model's units,
    None where no energy asks for one. `refining`: the change to subtract while refining. `open`:
    which images are above a target that can still be refined, `at_most` that many times.
    """

    before: Tensor | None
    after: Tensor | None
    refining: Tensor | None
    open: Tensor
    at_most: int


@dataclass(frozen=True)
class _Stated:
    """An energy and the plugin that stated it."""

    name: str
    energy: Energy


class Descent:
    """Turns energies into changes of the latents."""

    def __init__(self, state: State, passes: Passes) -> None:
        self.state, self.passes = state, passes

    @property
    def scale(self) -> float:
        """The scheduler's latents in units of the model's, in which all rules step."""
        return self.state.level.scale

    def descend(self, step: Step, latents: Tensor) -> tuple[Tensor, Tensor | None]:
        """All energies of a step.

        Returns:
            The moved latents (the same object when nothing moves), and the change to subtract
            after the scheduler's step, if any, in the model's units.
        """
        asking = [
            (name, guide)
            for name, guide in zip(self.state.names, self.state.guides, strict=True)
            if guide.reads and guide.guides(step)
        ]
        if not asking:
            return latents, None
        x = single(latents.detach())
        everything = list(range(self.state.run.batch))
        slope = self._slope(asking, step, x, everything)
        x, redo = self._refined(asking, step, x, slope)
        if redo:
            fresh = self._slope(asking, replace(step, iteration=-1), x[redo], redo)
            slope = _merged(slope, fresh, redo)
        if slope.before is not None:
            x = x - self.scale * slope.before
        if slope.before is None and not redo:
            return latents, slope.after
        return x.to(latents.dtype), slope.after

    def _refined(
        self, asking: list[tuple[str, Guide]], step: Step, x: Tensor, slope: Update
    ) -> tuple[Tensor, list[int]]:
        """Repeat pass and step for the images above their target; images that are done leave.

        As published, an image is done after the step that started from a loss within its target.
        """
        active = [image for image, still in enumerate(slope.open.tolist()) if still]
        touched = list(active)
        change = None if slope.refining is None else slope.refining[active]
        above = [True] * len(active)
        iteration = 0
        while active and change is not None and iteration < slope.at_most:
            x = x.clone()
            x[active] = x[active] - self.scale * change
            iteration += 1
            for image in active:
                self._count(image, step.index)
            active = [image for image, still in zip(active, above, strict=True) if still]
            if not active or iteration == slope.at_most:
                break
            found = self._slope(asking, replace(step, iteration=iteration), x[active], active)
            change, above = found.refining, found.open.tolist()
        return x, touched

    def _count(self, image: int, index: int) -> None:
        record = self.state.report.refinements[image]
        if record and record[-1][0] == index:
            record[-1] = (index, record[-1][1] + 1)
        else:
            record.append((index, 1))

    def _slope(
        self, asking: list[tuple[str, Guide]], step: Step, x: Tensor, images: list[int]
    ) -> Update:
        """One pass over some images, in sub-batches if memory is short."""
        size = self.state.memory.sub_batch or len(images)
        parts = [
            self._part(asking, step, x[start : start + size], images[start : start + size])
            for start in range(0, len(images), size)
        ]
        return Update(
            before=_joined([(part.before, len(part.open)) for part in parts]),
            after=_joined([(part.after, len(part.open)) for part in parts]),
            refining=_joined([(part.refining, len(part.open)) for part in parts]),
            open=torch.cat([part.open for part in parts]),
            at_most=max(part.at_most for part in parts),
        )

    def _part(
        self, asking: list[tuple[str, Guide]], step: Step, x: Tensor, images: list[int]
    ) -> Update:
        reads = sorted({read for _, guide in asking for read in guide.reads}, key=str)
        with torch.inference_mode(False), torch.enable_grad():
            leaf = x.clone().requires_grad_(True)
            maps = self.passes.read(leaf, images, reads, step)
            stated = self._stated(asking, step, maps)
            for one in stated:
                values = one.energy.loss.detach().tolist()
                if step.iteration <= 0:
                    self.state.report.loss(one.name, step.index, images, values)

            def gradient(total: Tensor) -> Tensor:
                return self._gradient(total, leaf)

            def change(energies: Sequence[Energy]) -> Tensor | None:
                found = self._change(energies, gradient, x, step.timestep)
                return None if found is None else self._finite(found, images)

            energies = [one.energy for one in stated]
            left = [
                e for e in energies if max(step.iteration, 0) < e.at_most and e.target is not None
            ]
            still = torch.zeros(len(images), dtype=torch.bool)
            for energy in left:
                assert energy.target is not None
                still = still | (energy.loss.detach() > energy.target).cpu()
            refining, steps = None, [_refining(energy) for energy in left]
            at_most = max((energy.at_most for energy in left), default=0)
            if step.iteration >= 0 and (step.iteration > 0 or bool(still.any())):
                refining = change(steps)
            if step.iteration > 0 or (step.iteration == 0 and bool(still.all())):
                # Every image moves on from here, and its step will start from where that leads.
                return Update(None, None, refining, still, at_most)
            movers = [e for e in energies if e.when == "before" and e.step_size > 0]
            same = refining is not None and list(map(id, steps)) == list(map(id, movers))
            before = refining if same else change(movers)
            after = change([e for e in energies if e.when == "after" and e.step_size > 0])
        return Update(before, after, refining, still, at_most)

    def _stated(
        self, asking: list[tuple[str, Guide]], step: Step, maps: list[Maps]
    ) -> list[_Stated]:
        """Every guide's energy, averaged over the text encoders, in the family's own terms."""
        shown = replace(step, iteration=max(step.iteration, 0))
        stated = []
        for name, guide in asking:
            found = [guide.energy(shown, one) for one in maps]
            energies = [energy for energy in found if energy is not None]
            if not energies:
                continue
            stated.append(_Stated(name, self.state.family.restate(_averaged(energies))))
        return stated

    def _gradient(self, total: Tensor, leaf: Tensor) -> Tensor:
        if not total.requires_grad:
            return torch.zeros_like(leaf)
        half = self.state.family.dtype == torch.float16
        loss_scale = HALF_SCALE if half else 1.0
        with self.passes.replayed():
            (found,) = torch.autograd.grad(total * loss_scale, [leaf], retain_graph=True)
        # For latents that are `scale` times the model's, a slope in the model's units is as much
        # steeper; the step that follows from it is multiplied by the scale once more.
        return single(found) * self.scale / loss_scale

    def _change(
        self, energies: Sequence[Energy], gradient: Gradient, x: Tensor, timestep: float
    ) -> Tensor | None:
        """The sum of all energies' steps; those with the same rule share a backward."""
        changes = []
        plain = [e for e in energies if e.rule == "plain"]
        if plain:
            changes.append(gradient(sum_of([e.loss.sum() * e.step_size for e in plain])))
        relative = [e for e in energies if e.rule == "relative"]
        if relative:
            changes.append(_relative(relative, gradient, x / self.scale))
        turning = [e for e in energies if e.rule == "velocity"]
        if turning:
            slope = gradient(sum_of([e.loss.sum() * e.step_size for e in turning]))
            after = levels.level_after(self.state.scheduler, timestep)
            changes.append(levels.turn(self.state.level, after) * slope[0].numel() * slope)
        for energy in energies:
            if energy.rule == "max-abs":
                slope = gradient(energy.loss.sum())
                peak = slope.abs().amax(dim=(1, 2, 3), keepdim=True)
                changes.append(energy.step_size * slope / peak.clamp_min(_tiny(peak)))
        return sum_of(changes) if changes else None

    def _finite(self, change: Tensor, images: Sequence[int]) -> Tensor:
        """Leave out images whose gradient is not finite, count and report them."""
        good = torch.isfinite(change).flatten(1).all(dim=1)
        for image, fine in zip(images, good.tolist(), strict=True):
            if not fine:
                self.state.report.skipped[image] += 1
                self.state.report.note(
                    "some gradients were not finite and their updates were left out; "
                    "float32 or bfloat16 may be needed"
                )
        return torch.where(good[:, None, None, None], change, 0.0)


def _relative(
    energies: Sequence[Energy], gradient: Gradient, x: Tensor
) -> Float[Tensor, "batch channels h w"]:
    """A step whose RMS is a share of the latents' RMS, along the energies' common slope.

    Several energies move as far together as independent moves would add up to.
    """
    sizes = [energy.step_size for energy in energies]
    length = sum(size**2 for size in sizes) ** 0.5
    share = [size / sum(sizes) for size in sizes]
    slope = gradient(sum_of([e.loss.sum() * s for e, s in zip(energies, share, strict=True)]))
    steep = _rms(slope)
    change: Tensor = length * _rms(x) * slope / steep.clamp_min(_tiny(steep))
    return change


def sum_of(parts: Sequence[Tensor]) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _averaged(energies: Sequence[Energy]) -> Energy:
    """One energy from those of several text encoders: mean losses, the strictest target."""
    first = energies[0]
    if len(energies) == 1:
        return first
    targets = [torch.as_tensor(e.target) for e in energies if e.target is not None]
    return replace(
        first,
        loss=torch.stack([e.loss for e in energies]).mean(0),
        target=torch.stack(torch.broadcast_tensors(*targets)).amin(0) if targets else None,
        refine_loss=None
        if first.refine_loss is None
        else torch.stack([_refining(e).loss for e in energies]).mean(0),
    )


def _refining(energy: Energy) -> Energy:
    return energy if energy.refine_loss is None else replace(energy, loss=energy.refine_loss)


def _rms(x: Tensor) -> Tensor:
    return x.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()


def _tiny(x: Tensor) -> float:
    return torch.finfo(x.dtype).tiny


def _joined(parts: Sequence[tuple[Tensor | None, int]]) -> Tensor | None:
    """Sub-batches' changes in a row; one that asks for no change has zeros."""
    given = [part for part, _ in parts if part is not None]
    if not given:
        return None
    still = given[0][:1] * 0
    return torch.cat([still.expand(n, -1, -1, -1) if part is None else part for part, n in parts])


def _merged(slope: Update, fresh: Update, images: list[int]) -> Update:
    """The slope with some images' rows taken from a later pass."""

    def rows(old: Tensor | None, new: Tensor | None) -> Tensor | None:
        if old is None or new is None:
            return old if new is None else new
        changed = old.clone()
        changed[images] = new
        return changed

    before, after = rows(slope.before, fresh.before), rows(slope.after, fresh.after)
    return Update(before, after, None, slope.open, 0)

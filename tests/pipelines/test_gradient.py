"""The engine's gradient beside a whole forward and backward, and what is done with it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from adhere import Guidance, Memory
from adhere.errors import ModelError, ParameterError
from adhere.guides.maps import Read
from tests import slow, tiny
from tests.probes import Energetic, Probe, column, contrast, descending, guide_of

SMALL = {"steps": 1, "size": (32, 24)}
LAST = slow.SEMANTIC[-1]


def double() -> Any:
    pipe = tiny.sd1()
    for part in (pipe.unet, pipe.text_encoder, pipe.vae):
        part.double()
    return pipe


def first_move(pipe: Any, *plugins: Any, memory: Memory | None = None, **call: Any) -> Tensor:
    """What the guided pass subtracts from the latents at the first step."""
    with slow.moves() as made:
        tiny.latents(pipe, guidance=Guidance(*plugins, memory=memory), **{**SMALL, **call})
    _, x, moved, _ = made[0]
    return x - moved


def first_call(pipe: Any, batch: int = 1, **call: Any) -> Any:
    with slow.calls(pipe.unet) as seen:
        tiny.latents(pipe, **{**SMALL, **call})
    return slow.conditional(seen[0], batch)


def close(one: Tensor, other: Tensor, share: float = 1e-5) -> None:
    assert other.norm() > 0
    assert (one - other).norm() < share * other.norm()


def nonlinear(maps: Tensor) -> Tensor:
    return 1 - (100 * maps).softmax(-1)[..., 2].amax((1, 2))


def test_the_gradient_of_the_stopped_pass_is_that_of_a_whole_one() -> None:
    pipe = double()
    call = first_call(pipe)
    expected = slow.slope(pipe.unet, call, call["sample"], nonlinear)
    close(first_move(pipe, Probe(lambda run: Energetic(contrast(2)))), expected, 1e-9)


def test_the_gradient_is_what_finite_differences_say() -> None:
    pipe = double()
    call = first_call(pipe)
    x, grid = call["sample"], (8, 6)
    found = first_move(pipe, Probe(lambda run: Energetic(contrast(2))))

    def loss(at: Tensor) -> float:
        with torch.no_grad():
            _, maps = slow.maps_of(pipe.unet, **{**call, "sample": at})
        return float(nonlinear(slow.cross(maps, slow.SEMANTIC, grid)))

    for seed in range(4):
        along = torch.randn(x.shape, generator=tiny.generators(seed)[0], dtype=x.dtype)
        along = along / along.norm()
        slope = (loss(x + 1e-5 * along) - loss(x - 1e-5 * along)) / 2e-5
        assert float((found * along).sum()) == pytest.approx(slope, rel=1e-5, abs=1e-10)


def test_nothing_behind_the_last_layer_read_is_run() -> None:
    pipe = tiny.sd1()
    ran: dict[str, int] = {}
    for name in ("up_blocks.2.attentions.0", LAST, "up_blocks.2.attentions.1", "up_blocks.3"):
        module = pipe.unet.get_submodule(name)
        module.register_forward_hook(lambda *_, name=name: ran.update({name: ran.get(name, 0) + 1}))
    tiny.latents(pipe, guidance=Guidance(descending()), **SMALL)
    # The denoiser's own pass runs all of them; the extra one stops inside the last attention.
    assert ran == {
        "up_blocks.2.attentions.0": 2,
        LAST: 1,
        "up_blocks.2.attentions.1": 1,
        "up_blocks.3": 1,
    }


@pytest.mark.parametrize("users", [False, True])
def test_checkpointing_changes_no_gradient(users: bool) -> None:
    """Whether the guidance turns it on for the run, or the user had it on."""
    pipe = double()
    probe = Probe(lambda run: Energetic(contrast(2)))
    expected = first_move(pipe, probe)
    if users:
        pipe.unet.enable_gradient_checkpointing()
    runs = 0

    def count(*_: Any) -> None:
        nonlocal runs
        runs += 1

    block = "down_blocks.0.attentions.0.transformer_blocks.0"
    pipe.unet.get_submodule(block).attn1.register_forward_hook(count)
    found = first_move(pipe, probe, memory=Memory(checkpointing=not users))
    close(found, expected, 1e-9)
    assert runs == 3  # the extra pass, its recomputation, and the denoiser's own
    assert pipe.unet.is_gradient_checkpointing is users


def test_sub_batches_equal_the_whole() -> None:
    pipe = double()
    probe = Probe(lambda run: Energetic(contrast(2)))
    call = {"prompt": ["a red cat", "a blue car", "a frog"], "seeds": (0, 1, 2)}
    whole = first_move(pipe, probe, **call)
    watched, guides = guide_of(probe)
    parts = first_move(pipe, watched, memory=Memory(sub_batch=2), **call)
    close(parts, whole, 1e-9)
    assert guides[0].images == [(0, 1), (2,)]
    with pytest.raises(ParameterError, match="1 or more"):
        Memory(sub_batch=0)


def test_only_the_chosen_layers_are_read() -> None:
    pipe = double()
    call = first_call(pipe)
    chosen = slow.SEMANTIC[:1]
    expected = slow.slope(
        pipe.unet, call, call["sample"], lambda maps: maps[..., 2].mean((1, 2)), chosen
    )
    memory = Memory(layers=("down_blocks.*",))
    close(first_move(pipe, descending(), memory=memory), expected, 1e-9)
    memory = Memory(layers=("somewhere.*",))
    with pytest.raises(
        ParameterError, match=r"no cross attention layer matches somewhere.*down_bl"
    ):
        first_move(pipe, descending(), memory=memory)


# ---- Several energies --------------------------------------------------------


def test_two_energies_share_one_pass_and_add_up() -> None:
    pipe = double()
    one, other = Probe(lambda run: Energetic(contrast(2))), descending(3, step_size=4.0)
    apart = first_move(pipe, one) + first_move(pipe, other)
    with Guidance(one, other).attach(pipe) as attached:
        tiny.latents(pipe, **{**SMALL, "steps": 2})
    assert attached.report.passes == [2]
    assert set(attached.report.losses) == {"probe", "probe#2"}
    close(first_move(pipe, one, other), apart, 1e-9)


def test_energies_of_different_rules_and_reads_share_a_pass_too() -> None:
    pipe = double()
    one = descending(2, step_size=0.1, rule="max-abs")
    other = Probe(
        lambda run: Energetic(
            lambda maps: maps.self().square().sum((1, 2, 3, 4)), reads=[Read("self")]
        )
    )
    apart = first_move(pipe, one) + first_move(pipe, other)
    with Guidance(one, other).attach(pipe) as attached:
        tiny.latents(pipe, **SMALL)
    assert attached.report.passes == [1]
    close(first_move(pipe, one, other), apart, 1e-9)


def test_the_rules_of_steps() -> None:
    pipe = double()
    slope = first_move(pipe, descending())
    call = first_call(pipe)
    largest = first_move(pipe, descending(step_size=0.3, rule="max-abs"))
    close(largest, 0.3 * slope / slope.abs().max(), 1e-9)
    assert float(largest.abs().max()) == pytest.approx(0.3)
    relative = first_move(pipe, descending(step_size=0.02, rule="relative"))
    rms = call["sample"].square().mean().sqrt()
    close(relative, 0.02 * rms * slope / slope.square().mean().sqrt(), 1e-9)


def test_two_relative_energies_go_as_far_as_independent_moves_would() -> None:
    pipe = double()
    probes = [descending(k, step_size=size, rule="relative") for k, size in ((2, 0.03), (3, 0.04))]
    together = first_move(pipe, *probes)
    x = first_call(pipe)["sample"]
    length = together.square().mean().sqrt() / x.square().mean().sqrt()
    assert float(length) == pytest.approx(0.05)


def test_an_energy_after_the_step_moves_its_result() -> None:
    pipe = double()
    before = first_move(pipe, descending())
    plain = tiny.latents(pipe, **SMALL)
    after = tiny.latents(pipe, guidance=Guidance(descending(when="after")), **SMALL)
    # One step only: the result is the scheduler's, moved by the gradient at the step's beginning.
    close(plain - after, before, 1e-6)


def test_no_gradient_no_move() -> None:
    pipe = tiny.sd1()
    plain = tiny.latents(pipe)
    constant = Probe(lambda run: Energetic(lambda maps: maps.cross().sum((1, 2, 3)) * 0))
    assert torch.equal(tiny.latents(pipe, guidance=Guidance(constant)), plain)
    nothing = descending(step_size=0.0)
    assert torch.equal(tiny.latents(pipe, guidance=Guidance(nothing)), plain)


# ---- Refinement --------------------------------------------------------------


def test_images_are_refined_each_by_itself_and_leave_when_done() -> None:
    """Image 1 starts at its target; image 0 never reaches it; image 2 does after some steps."""
    pipe = double()
    call = {"prompt": ["a red cat", "a blue car", "a frog"], "seeds": (0, 1, 2)}

    def loss(maps: Any) -> Tensor:
        return column(2)(maps)

    probe, guides = guide_of(Probe(lambda run: Energetic(loss, step_size=100.0)))
    first_move(pipe, probe, **call)
    start = torch.tensor([table[0][1] for table in _losses(pipe, probe, call)], dtype=torch.float64)
    target = torch.stack([start[0] - 10, start[1] + 1, start[2] * 0.999])

    def stated(run: Any) -> Any:
        class Refining(Energetic):
            def energy(self, step: Any, maps: Any) -> Any:
                self.more = {"target": target[list(maps.images)], "at_most": 4}
                return super().energy(step, maps)

        return Refining(loss, step_size=100.0)

    probe, guides = guide_of(Probe(stated))
    with Guidance(probe).attach(pipe) as attached:
        tiny.latents(pipe, **{**SMALL, **call})
    counts = [dict(table).get(0, 0) for table in attached.report.refinements]
    assert counts[0] == 4
    assert counts[1] == 0
    assert 1 <= counts[2] < 4
    seen = guides[0].images
    assert seen[0] == (0, 1, 2)
    assert seen[1] == (0, 2)
    assert seen[-1] == (0, 2)  # the step from where refinement has led
    assert (0,) in seen
    # One pass at the start and one after each refinement, the last of which serves the step.
    assert attached.report.passes == [count + 1 for count in counts]


def _losses(pipe: Any, probe: Any, call: Any) -> Any:
    with Guidance(probe).attach(pipe) as attached:
        tiny.latents(pipe, **{**SMALL, **call})
    return attached.report.losses["probe"]


def test_refinement_repeats_the_step_from_where_it_is() -> None:
    """Two refinements and the step itself are three descents, each with its own gradient."""
    pipe = double()
    size = 2000.0
    probe = descending(step_size=size, target=-10.0, at_most=2)
    call = first_call(pipe)
    x = call["sample"]
    for _ in range(3):
        x = x - size * slow.slope(pipe.unet, call, x, lambda maps: maps[..., 2].mean((1, 2)))
    close(first_move(pipe, probe), call["sample"] - x, 1e-7)


def test_refinement_may_follow_another_loss() -> None:
    pipe = double()

    class Two(Energetic):
        def energy(self, step: Any, maps: Any) -> Any:
            self.more["refine_loss"] = column(3)(maps)
            return super().energy(step, maps)

    size = 2000.0
    probe = Probe(lambda run: Two(column(2), step_size=size, target=-10.0, at_most=1))
    call = first_call(pipe)
    x = call["sample"]
    for k in (3, 2):
        x = x - size * slow.slope(pipe.unet, call, x, lambda maps, k=k: maps[..., k].mean((1, 2)))
    close(first_move(pipe, probe), call["sample"] - x, 1e-7)


# ---- What goes wrong ---------------------------------------------------------


def test_a_gradient_that_is_not_finite_is_left_out_for_its_image_alone() -> None:
    pipe = tiny.sd1()
    bad = Probe(lambda run: Energetic(lambda maps: _broken(maps), step_size=100.0))
    good = descending(step_size=100.0)
    call = {"prompt": ["a red cat", "a blue car"], "seeds": (0, 1)}
    expected = tiny.latents(pipe, guidance=Guidance(good), **call)
    plain = tiny.latents(pipe, **call)
    with Guidance(bad).attach(pipe) as attached:
        found = tiny.latents(pipe, **call)
    assert torch.equal(found[0], plain[0])
    assert tiny.apart(found[1:], expected[1:]) < 1e-5
    assert attached.report.skipped == [3, 0]
    assert any("not finite" in note for note in attached.report.notes)


def _broken(maps: Any) -> Tensor:
    scale = torch.tensor([float("nan") if image == 0 else 1.0 for image in maps.images])
    return column(2)(maps) * scale


def test_maps_that_were_not_asked_for_are_refused() -> None:
    probe = Probe(lambda run: Energetic(lambda maps: maps.self().sum((1, 2, 3, 4))))
    with pytest.raises(Exception, match="without declaring it in its `reads`"):
        tiny.latents(tiny.sd1(), guidance=Guidance(probe))


def test_a_processor_that_cannot_be_read_is_named() -> None:
    pipe = tiny.sd1()

    class Own:
        def __call__(self, attn: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            return hidden_states

    pipe.unet.get_submodule(LAST).processor = Own()
    with pytest.raises(ModelError, match=f"attention of {LAST} could not be met"):
        tiny.latents(pipe, guidance=Guidance(descending()))

"""What every plugin in the table owes its users. Nothing here knows a plugin by name."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import json
import pickle
import threading
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline

from adhere import Guidance
from adhere.errors import ParameterError, PromptError
from adhere.guides import parameters
from adhere.guides.guide import Guide, Plugin
from adhere.plugins import PLUGINS
from tests import stored, tiny
from tests.leftovers import failing, nothing_left
from tests.nightly import first_by_day
from tests.probes import Failing, Probe, guide_of
from tests.verifying import NEEDED

ABOUT = {"layout": tiny.LAYOUT}
"""What a plugin may need beside the prompt; those that need nothing pass it by."""

every = pytest.mark.parametrize("kind", PLUGINS.values(), ids=PLUGINS.keys())


def numbers(kind: type[Plugin]) -> list[parameters.Parameter]:
    """The parameters that are one number, or may be."""
    found = []
    for parameter in parameters.parameters(kind):
        options = parameters._options(parameter.kind)
        if int in options or float in options:
            found.append(parameter)
    return found


def made(kind: type[Plugin], shape: tuple[int, ...] = stored.SHAPE, **values: Any) -> Plugin:
    """The plugin at its defaults, but for speed with counts (of refinements, draws) of 3 at most.

    Texts that cannot be left out (an edit, a style) are given one that is each of them, files one
    for latents of `shape`.
    """
    for p in numbers(kind):
        if int in parameters._options(p.kind) and p.default is not None and p.default > 3:
            values.setdefault(p.name, max(3, int(p.low or 0)))
    for p in parameters.parameters(kind):
        if p.name in NEEDED:
            values.setdefault(p.name, NEEDED[p.name])
    names = {p.name for p in parameters.parameters(kind)}
    return kind(**{**stored.needed(names, shape), **values})


def host(kind: type[Plugin], **parts: Any) -> Any:
    """A pipeline that the plugin can guide."""
    return tiny.suited(kind, tiny.sd1(**parts))


REPEATED = ("refinements", "repeats", "rounds", "passes", "last_passes")
"""Parameters that say how often a method does the same again."""


def switched_off(kind: type[Plugin]) -> Plugin:
    """No steps, no strength, no second draw: every number at the low end of its range."""
    low = {p.name: type(p.low)(p.low) for p in numbers(kind) if p.low is not None}
    no = {p.name: False for p in parameters.parameters(kind) if p.kind is bool}
    return made(kind, **low, **no)


def pictures(kind: type[Plugin], count: int) -> dict[str, Any]:
    """A call for some pictures: of one prompt where the plugin chooses among them."""
    seeds = tuple(range(count))
    if getattr(kind, "several", False):
        return {"prompt": tiny.PROMPT, "num_images_per_prompt": count, "seeds": seeds}
    return {"prompt": [tiny.PROMPT] * count, "seeds": seeds}


def guided(pipe: Any, *plugins: Any, mode: str = "attach", **options: Any) -> torch.Tensor:
    return plain(pipe, guidance=Guidance(*plugins), mode=mode, about=ABOUT, **options)


def plain(pipe: Any, **options: Any) -> torch.Tensor:
    prompt = options.get("prompt", "")
    # Diffusers wants as many negative prompts as there are prompts.
    unwanted: Any = "a photo of a skull"
    if isinstance(prompt, list):
        unwanted = [unwanted] * len(prompt)
    return tiny.latents(pipe, steps=2, **{"negative_prompt": unwanted, **options})


# ---- Plain data --------------------------------------------------------------


@every
def test_it_is_frozen_plain_data(kind: Any) -> None:
    plugin = kind()
    assert isinstance(plugin, Plugin)
    assert hash(plugin) == hash(kind())
    assert plugin == kind()
    for field in dataclasses.fields(plugin):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(plugin, field.name, None)
        assert not isinstance(getattr(plugin, field.name), (torch.Tensor, list, dict, set))


@every
def test_it_survives_pickle_and_json(kind: Any) -> None:
    for plugin in (kind(), made(kind), switched_off(kind)):
        assert pickle.loads(pickle.dumps(plugin)) == plugin
        there = json.loads(json.dumps(parameters.to_json(plugin)))
        assert there["plugin"] == kind.name
        assert parameters.from_json(kind, there) == plugin


@every
def test_its_parameters_describe_themselves(kind: Any) -> None:
    for parameter in parameters.parameters(kind):
        assert parameter.help, parameter.name
        assert parameter.help[-1] != ".", f"{parameter.name}: a phrase, not a sentence"
    for parameter in numbers(kind):
        assert parameter.low is not None, parameter.name
        assert parameter.high is not None, parameter.name
        assert parameter.low < parameter.high


@every
def test_it_refuses_numbers_out_of_range(kind: Any) -> None:
    for parameter in numbers(kind):
        assert parameter.low is not None
        assert parameter.high is not None
        for value in (parameter.low - 1, parameter.high + 1, float("nan")):
            with pytest.raises(ParameterError, match=parameter.name):
                kind(**{parameter.name: value})
        for value in (parameter.low, parameter.high):
            refused = "lies behind"  # in a range whose other end is at its default
            try:
                kind(**{parameter.name: type(parameter.low)(value)})
            except ParameterError as error:
                refused = str(error)
            assert "lies behind" in refused


@every
def test_a_range_that_ends_before_it_begins_is_refused(kind: Any) -> None:
    own = {parameter.name: parameter for parameter in parameters.parameters(kind)}
    ranges = {last.behind: last.name for last in own.values() if last.behind}
    assert "start" not in own or "stop" not in own or ranges["start"] == "stop"
    for first, last in ranges.items():
        with pytest.raises(ParameterError, match=f"{first}=0.6 lies behind {last}=0.4"):
            kind(**{first: 0.6, last: 0.4})
        with pytest.raises(ParameterError, match="lies behind"):
            parameters.from_json(kind, {first: 0.6, last: 0.4})
        same = kind(**{first: 0.4, last: 0.4})
        assert dataclasses.replace(same, **{last: 0.5}) == kind(**{first: 0.4, last: 0.5})


@every
def test_values_of_numpy_are_pythons_own(kind: Any) -> None:
    """Plain data prints, adds and travels alike everywhere."""
    named = [p for p in numbers(kind) if p.default is not None]
    given = {p.name: (np.int64 if int in p.kinds else np.float64)(p.default) for p in named}
    found = kind(**given)
    assert found == kind()
    assert {type(getattr(found, p.name)) for p in named} <= {int, float}
    for p in parameters.parameters(kind):
        if p.choices:
            with pytest.raises(ParameterError, match=p.name):
                kind(**{p.name: np.array(["a", "b"])})


@every
def test_its_file_is_short_and_tells_its_source(kind: Any) -> None:
    module = inspect.getmodule(kind)
    assert module is not None
    source = inspect.getsource(module)
    assert source.count("\n") <= 200
    assert module.__doc__
    assert "arXiv" in module.__doc__ or "http" in module.__doc__, "say which paper it is"
    assert kind.__doc__


# ---- At work -----------------------------------------------------------------


@every
def test_it_changes_the_picture_the_same_way_every_time(kind: Any) -> None:
    pipe = host(kind)
    # Several images, because the noise that one is given may happen to be the best there is.
    both = pictures(kind, 3)
    before = plain(pipe, **both)
    first = guided(pipe, made(kind), **both)
    assert not torch.equal(first, before)
    assert torch.equal(guided(pipe, made(kind), **both), first)


@every
def test_a_callback_gives_the_same_picture_bit_for_bit(kind: Any) -> None:
    pipe = host(kind)
    attached = guided(pipe, made(kind))
    assert torch.equal(guided(pipe, made(kind), mode="callback"), attached)
    assert torch.equal(guided(pipe, made(kind), mode="multi"), attached)


@every
def test_switched_off_it_changes_nothing(kind: Any) -> None:
    pipe = host(kind)
    off = guided(pipe, switched_off(kind), negative_prompt="")
    assert torch.equal(off, plain(pipe, negative_prompt=""))


def ends(kind: type[Plugin], shape: tuple[int, ...]) -> list[Plugin]:
    """The plugin with all numbers at their low ends, and with one there, or a share at one."""
    found = [switched_off(kind)]
    for p in numbers(kind):
        for end in (p.low, *([p.high] if p.high == 1 else [])):
            # An end may be at odds with another number's default, and is refused then.
            with contextlib.suppress(ParameterError):
                found += [] if end is None else [made(kind, shape, **{p.name: type(end)(end)})]
    assert len(found) > 1 or not numbers(kind)
    return found


@every
def test_what_changes_nothing_costs_nothing(kind: Any) -> None:
    """Where no image moves, the guide says that it is off: no hooks, no rows, no pass."""
    pipe = host(kind)
    both = {**pictures(kind, 3), "size": (16, 16)}
    before = plain(pipe, **both)
    for plugin in ends(kind, (4, 8, 8)):
        watched, guides = guide_of(Probe(plugin.guide))
        still = torch.equal(guided(pipe, watched, **both), before)
        assert guides[0].off == still, plugin


@every
def test_two_images_at_once_equal_each_alone(kind: Any) -> None:
    # In double precision: a hundred passes of a random model would blow up single rounding.
    pipe = host(kind).to(torch.float64)
    prompts = ["a red cat and a blue car", "a photo of a blue car with a small red cat"]
    each = 4 if getattr(kind, "several", False) else 1
    seeds = tuple(range(2 * each))
    both = guided(pipe, made(kind), prompt=prompts, seeds=seeds, num_images_per_prompt=each)
    for k, prompt in enumerate(prompts):
        own = seeds[k * each : (k + 1) * each]
        alone = guided(pipe, made(kind), prompt=prompt, seeds=own, num_images_per_prompt=each)
        assert tiny.apart(both[k * each : (k + 1) * each], alone) < 1e-4
    before = plain(pipe, prompt=prompts, seeds=seeds, num_images_per_prompt=each)
    assert tiny.apart(both, before) > 1e-4


@every
@pytest.mark.parametrize(
    "dtype", [pytest.param(torch.bfloat16, marks=pytest.mark.slow), torch.float16]
)
def test_half_precision_stays_finite_and_near(kind: Any, dtype: torch.dtype) -> None:
    # Repetitions on random weights multiply rounding, each time by more than one; one is enough.
    again = {p.name: 1 for p in numbers(kind) if p.name in REPEATED}
    plugin = made(kind, **again)
    # Drawn once: torch draws other noise in half precision, in some of its releases. Of four
    # pictures together: what a method chooses by (a brightest cell, the sign of a small gradient
    # in Adam's first step) is a coin for each, in this arithmetic as with rounded weights.
    # Not where pictures are chosen by their scores: on random weights another one of them may win.
    count = 1 if kind.task == "choose" else 4
    noise = torch.randn(count, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    four = {**pictures(kind, count), "latents": noise}
    exact, before_exact = guided(host(kind), plugin, **four), plain(host(kind), **four)
    pipe, begun = host(kind).to(dtype), {**four, "latents": noise.to(dtype)}
    rounded, before = guided(pipe, plugin, **begun), plain(pipe, **begun)
    assert rounded.dtype == dtype
    assert torch.isfinite(rounded).all()
    # A method may find nothing to change (the given noise is the best), but then at any precision.
    assert torch.equal(exact, before_exact) or not torch.equal(rounded, before)
    error = (rounded.float() - exact).norm()
    # Not other pictures: nearer to the exact ones than pictures of other seeds are to each other.
    assert error < 0.5 * exact.norm()
    # Nor farther than this arithmetic takes it. Rounding the weights alone is one rounding in each
    # layer; the layer's own operations are about twenty more, which add up like their root, 5.
    # Twice that, for choices that fall to either side in some of the four.
    weights = max(
        (guided(weights_rounded(kind, dtype, n), plugin, **four) - exact).norm() for n in (1, 2)
    )
    assert error < 10 * weights


def weights_rounded(kind: type[Plugin], dtype: torch.dtype, times: int) -> Any:
    """A pipeline in single precision whose weights were rounded, or rounded twice as far."""
    pipe = host(kind)
    with torch.no_grad():
        for weight in (*pipe.unet.parameters(), *pipe.text_encoder.parameters()):
            weight.add_(weight.to(dtype).float() - weight, alpha=times)
    return pipe


@every
def test_embeddings_alone_are_as_their_text_or_are_refused(kind: Any) -> None:
    """Never taken for the empty prompt, which they are told without a word as."""
    pipe = host(kind)
    cond, none = pipe.encode_prompt(tiny.PROMPT, "cpu", 1, True, "a bird")[:2]
    given = {"prompt": None, "prompt_embeds": cond, "negative_prompt_embeds": none}
    many = 3 if getattr(kind, "several", False) else 1
    call = {"num_images_per_prompt": many, "seeds": tuple(range(many))}
    found: Any = None
    refused = ""
    try:
        found = guided(pipe, made(kind), negative_prompt=None, **given, **call)
    except PromptError as error:
        refused = str(error)
    if found is None:
        assert "pass it as attach(pipe, prompt=...)" in refused
        return
    assert "verifier" not in {one.name for one in parameters.parameters(kind)}
    said = guided(pipe, made(kind), prompt=tiny.PROMPT, negative_prompt="a bird", **call)
    assert torch.equal(found, said)


def chooses_noise(kind: type[Plugin]) -> bool:
    """Whether its guide chooses the noise that a picture begins with, or goes on from."""
    module = inspect.getmodule(kind)
    classes = [one for one in vars(module).values() if inspect.isclass(one)]
    own = [one for one in classes if issubclass(one, Guide) and one.__module__ == kind.__module__]
    return any({"initial", "resume"} & vars(one).keys() for one in own)


# What begins pictures again has no moment of its own for it.
@pytest.mark.parametrize(
    "kind", [kind for name, kind in PLUGINS.items() if chooses_noise(kind) or name == "restart"]
)
def test_what_chooses_noise_says_so_where_a_call_starts_from_a_picture(kind: Any) -> None:
    parts = host(kind).components
    pipe = StableDiffusionImg2ImgPipeline(**parts, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    call = {"image": torch.full((1, 3, 32, 32), 0.5), "strength": 0.5, "num_inference_steps": 2}
    with Guidance(made(kind)).attach(pipe, **ABOUT) as attached:
        found = pipe(tiny.PROMPT, generator=tiny.generators(0), output_type="latent", **call)
    said = f"{kind.name} chose no noise: the call starts from a picture"
    assert said in attached.report.notes
    if kind.name != "initno":  # which guides the steps as well
        alone = pipe(tiny.PROMPT, generator=tiny.generators(0), output_type="latent", **call)
        assert torch.equal(found.images, alone.images)


# ---- Nothing left ------------------------------------------------------------


class Oops(Exception):
    pass


@every
@pytest.mark.parametrize("mode", first_by_day(["attach", "callback"]))
def test_nothing_is_left_after_success_or_failure(kind: Any, mode: str) -> None:
    pipe = host(kind)
    plugin = made(kind)
    late = "up_blocks.3.resnets.0"
    early = "down_blocks.0.attentions.0.transformer_blocks.0.attn2"
    with nothing_left(pipe):
        guided(pipe, plugin, mode=mode)
    with nothing_left(pipe), pytest.raises(ValueError, match="divisible"):
        guided(pipe, plugin, mode=mode, size=(33, 32))
    failure = Probe(lambda run: Failing("predict", Oops(), step=0))
    with nothing_left(pipe), pytest.raises(Oops):
        guided(pipe, plugin, failure, mode=mode)
    for part, call, error in (
        (early, 2, Oops()),
        (late, 2, Oops()),
        (late, 2, KeyboardInterrupt()),
    ):
        module = pipe.unet.get_submodule(part)
        with nothing_left(pipe), failing(module, error, call), pytest.raises(type(error)):
            guided(pipe, plugin, mode=mode)


@every
def test_nothing_is_left_after_an_interrupt(kind: Any) -> None:
    class Stop(tiny._Watcher):
        def callback_fn(self, pipeline: Any, step: int, timestep: Any, tensors: Any) -> Any:
            pipeline._interrupt = True
            return tensors

    pipe = host(kind)
    with nothing_left(pipe), Guidance(made(kind)).attach(pipe, **ABOUT):
        plain(pipe, callback_on_step_end=Stop())


@every
def test_two_threads_on_one_unet_equal_the_same_runs_in_sequence(kind: Any) -> None:
    one = host(kind)
    two = host(kind, unet=one.unet, text_encoder=one.text_encoder, vae=one.vae)
    jobs = [(one, "a red cat and a blue car", 0), (two, "a blue car and a red cat", 1)]

    def run(k: int) -> torch.Tensor:
        pipe, prompt, seed = jobs[k]
        return guided(pipe, made(kind), prompt=prompt, seeds=(seed,))

    expected = [run(0), run(1)]
    found: dict[int, Any] = {}
    start = threading.Barrier(2)

    def work(k: int) -> None:
        torch.set_num_threads(1)
        start.wait()
        try:
            found[k] = run(k)
        except BaseException as error:
            found[k] = error

    with nothing_left(one), nothing_left(two):
        threads = [threading.Thread(target=work, args=(k,)) for k in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for k in (0, 1):
        assert isinstance(found[k], torch.Tensor), found[k]
        assert torch.equal(found[k], expected[k])


@every
def test_two_runs_share_nothing(kind: Any) -> None:
    """Guides are made for one run: what one of them remembers is not seen by another."""
    seen: list[Guide] = []

    @dataclasses.dataclass(frozen=True)
    class Watched:
        name = kind.name

        def guide(self, run: Any) -> Guide:
            seen.append(plugin.guide(run))
            return seen[-1]

    plugin = made(kind)
    pipe = host(kind)
    first = guided(pipe, Watched())
    guided(pipe, Watched(), prompt="a blue car and a red cat", seeds=(3,))
    assert torch.equal(guided(pipe, Watched()), first)
    assert len({id(guide) for guide in seen}) == 3
    mutable = [
        {id(value) for value in vars(guide).values() if isinstance(value, (list, dict, set))}
        for guide in seen
    ]
    assert not mutable[0] & mutable[1]

"""What guides are given: the latents that the model was shown, where other texts' words are."""

from __future__ import annotations

import functools
import math
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from adhere import Guidance, ModelError
from adhere.errors import PromptError
from adhere.guides.guide import Guide, Prediction, Step, Text
from adhere.guides.parameters import parameters
from adhere.plugins import PLUGINS
from tests import stored, tiny
from tests.families.cases import CASES
from tests.probes import Probe


class Seeing(Guide):
    """Keeps what it is given and adds nothing that could be seen."""

    texts = ("a frog",)

    def __init__(self) -> None:
        self.seen: list[tuple[Step, Tensor]] = []

    def predict(self, step: Step, eps: Prediction) -> Tensor:
        self.seen.append((step, eps.latents))
        return eps.cond


@pytest.mark.parametrize("kind", ["DDIMScheduler", "EulerDiscreteScheduler"])
def test_latents_are_what_the_model_was_shown(kind: str) -> None:
    pipe: Any = tiny.sd1()
    pipe.scheduler = getattr(diffusers, kind).from_config(pipe.scheduler.config)
    guide, shown = Seeing(), []
    hook = pipe.unet.register_forward_pre_hook(
        lambda module, args, kwargs: shown.append(args[0] if args else kwargs["sample"]),
        with_kwargs=True,
    )
    tiny.latents(
        pipe, guidance=Guidance(Probe(lambda run: guide)), seeds=(0, 1), prompt=["a cat"] * 2
    )
    hook.remove()
    assert len(guide.seen) == len(shown) == 3
    for (step, latents), sample in zip(guide.seen, shown, strict=True):
        torch.testing.assert_close(latents, sample[2:4])
        assert math.hypot(step.noise / step.sigma, step.noise) == pytest.approx(1, abs=1e-4)


class Asking(Guide):
    """Asks where words stand in texts that are not the prompt."""

    def embed(self, step: Step, text: Text) -> Text:
        texts = ["cat", "a red cat and a frog"]
        self.columns = [one.content for one in text.tracks(texts)[0].images]
        self.rows = text.encode(texts)
        return text


@pytest.mark.parametrize("make", [tiny.sd1, tiny.sd2, tiny.sdxl])
def test_words_of_other_texts_are_found(make: Any) -> None:
    guide = Asking()
    tiny.latents(make(), guidance=Guidance(Probe(lambda run: guide)))
    assert guide.columns == [(1,), (1, 2, 3, 4, 5, 6)]
    # What is read up to a word does not depend on what follows: the encoders are causal.
    torch.testing.assert_close(guide.rows[0, 0], guide.rows[1, 0])
    assert not torch.allclose(guide.rows[0, 1], guide.rows[1, 1])


def test_models_that_cannot_say_so_refuse() -> None:
    case = CASES["sana"]
    with (
        Guidance(Probe(lambda run: Asking())).attach(case.pipe),
        pytest.raises(ModelError, match=r"^probe: texts can be compared .* with a language model"),
    ):
        case(["a red cat"], seeds=[0])


@pytest.mark.parametrize("name", ["caption-jitter", "safree", "prototype"])
def test_what_reads_the_prompt_is_told_its_text_beside_embeddings(name: str) -> None:
    pipe: Any = tiny.sd1()
    kind = PLUGINS[name]
    plugin = kind(**stored.needed({one.name for one in parameters(kind)}))
    embeds = pipe.encode_prompt("a cat and a dog", "cpu", 1, False)[0]

    def called(**about: Any) -> Tensor:
        with Guidance(plugin).attach(pipe, **about):
            generator = torch.Generator().manual_seed(0)
            drawn: Tensor = pipe(
                prompt_embeds=embeds, negative_prompt_embeds=embeds, num_inference_steps=1,
                generator=generator, output_type="latent", height=32, width=32,
            ).images  # fmt: skip
            return drawn

    with pytest.raises(
        PromptError, match=r"which text they are of is not known; pass it as attach"
    ):
        called()
    assert called(prompt="a cat and a dog").isfinite().all()
    assert called(prompt="").isfinite().all()


class Pooled(Guide):
    """Moves the prompt's pooled embedding, and asks for that of another text."""

    def embed(self, step: Step, text: Text) -> Text:
        assert text.pooled is not None
        self.other = text.pool(["a frog"])
        return text.replace(pooled=text.pooled + 1)


def _told(pipe: Any, call: Any) -> list[Tensor]:
    """The pooled embeddings that a denoiser is told, call by call, after all hooks."""
    denoiser, told = getattr(pipe, "unet", None) or pipe.transformer, []
    plain = denoiser.forward

    @functools.wraps(plain)
    def forward(*args: Any, **kwargs: Any) -> Any:
        more = kwargs.get("added_cond_kwargs") or {"text_embeds": kwargs.get("pooled_projections")}
        told.append(more["text_embeds"].clone())
        return plain(*args, **kwargs)

    denoiser.forward = forward
    try:
        call()
    finally:
        del denoiser.forward
    return told


def _sdxl() -> tuple[Any, Any, Any]:
    pipe: Any = tiny.sdxl()
    return pipe, lambda **about: tiny.latents(pipe, **about), pipe.encode_prompt("a frog")[2]


def _sd3() -> tuple[Any, Any, Any]:
    case = CASES["sd3"]

    def call(guidance: Any = None) -> None:
        if guidance is None:
            case(["a red cat"], seeds=[0])
            return
        with guidance.attach(case.pipe):
            case(["a red cat"], seeds=[0])

    return case.pipe, call, case.pipe.encode_prompt("a frog", None, None)[2]


@pytest.mark.parametrize("make", [_sdxl, _sd3])
def test_the_pooled_embedding_of_the_prompt_alone_is_moved(make: Any) -> None:
    pipe, call, other = make()
    guide = Pooled()
    plain = _told(pipe, call)
    guided = _told(pipe, lambda: call(guidance=Guidance(Probe(lambda run: guide))))
    assert len(plain) == len(guided) > 0
    for one, moved in zip(plain, guided, strict=True):
        half = len(one) // 2
        assert torch.equal(moved[:half], one[:half])
        torch.testing.assert_close(moved[half:], one[half:] + 1)
    torch.testing.assert_close(guide.other, other)


def test_words_of_other_texts_are_found_in_each_encoder_of_sd3() -> None:
    case, found = CASES["sd3"], []

    class Both(Guide):
        def embed(self, step: Step, text: Text) -> Text:
            tracks = text.tracks(["cat", "a red cat and a frog"])
            found.append([[one.content for one in track.images] for track in tracks])
            return text

    with Guidance(Probe(lambda run: Both())).attach(case.pipe):
        case(["a red cat"], seeds=[0])
    clip, t5 = found[0]
    assert clip == [(1,), (1, 2, 3, 4, 5, 6)]
    assert t5[0][0] == t5[1][0] == 77

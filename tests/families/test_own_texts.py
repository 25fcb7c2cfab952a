"""Texts as they are encoded: a guide's own like the prompt, learnt words, one encoder's prompt."""

from __future__ import annotations

import copy
import functools
from typing import Any

import pytest
import torch
from torch import Tensor

from adhere import Guidance
from adhere.errors import ModelError
from adhere.guides.guide import Guide, Prediction, Step
from adhere.guides.maps import Read
from adhere.guides.run import Run
from adhere.plugins import PLUGINS
from tests import tiny
from tests.families.cases import CASES, PROMPTS, Case
from tests.probes import Probe

TEXT = "a cat and a dog"


class Same(Guide):
    """Its text is the prompt."""

    texts = (TEXT,)

    def __init__(self) -> None:
        self.apart: list[float] = []

    def predict(self, step: Step, eps: Prediction) -> Tensor:
        size = eps.cond.abs().amax()
        self.apart.append(float((eps.extra[0] - eps.cond).abs().amax() / size))
        return eps.cond


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_text_that_is_the_prompt_changes_nothing(case: Case) -> None:
    guide = Same()
    with Guidance(Probe(lambda run: guide)).attach(case.pipe):
        case([TEXT], seeds=[1], steps=1)
    assert guide.apart
    assert max(guide.apart) < 1e-3


# The plain pipelines of SD 1.x and 2.x fail themselves with clip_skip under transformers 5.6.
@pytest.mark.parametrize("make", [tiny.sdxl, CASES["sd3"].make])
@pytest.mark.parametrize("options", [{"clip_skip": 1}, {}])
def test_it_is_encoded_with_the_prompts_options(make: Any, options: dict[str, Any]) -> None:
    guide = Same()
    pipe = make()
    with Guidance(Probe(lambda run: guide)).attach(pipe):
        pipe(
            TEXT,
            height=32,
            width=32,
            num_inference_steps=1,
            output_type="latent",
            guidance_scale=5.0,
            **options,
        )
    assert max(guide.apart) < 1e-3


def test_the_scale_of_a_text_encoders_lora_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = tiny.sd1()
    given: list[Any] = []
    encode = type(pipe).encode_prompt

    @functools.wraps(encode)
    def spied(self: Any, *args: Any, **options: Any) -> Any:
        given.append(options.get("lora_scale"))
        return encode(self, *args, **options)

    monkeypatch.setattr(type(pipe), "encode_prompt", spied)
    with Guidance(Probe(lambda run: Same())).attach(pipe):
        tiny.latents(pipe, TEXT, steps=1, cross_attention_kwargs={"scale": 0.5})
    assert given == [0.5, 0.5]


def runs_of(pipe: Any, call: Any, **about: Any) -> list[Run]:
    seen: list[Run] = []
    probe = Probe(lambda run: (seen.append(run), Guide())[1])
    with Guidance(probe).attach(pipe, **about):
        call()
    return seen


def test_a_learnt_word_of_three_vectors_moves_the_later_columns() -> None:
    for pipe in (tiny.sd1(), tiny.sdxl()):
        for number in ("", "_2") if hasattr(pipe, "tokenizer_2") else ("",):
            tokenizer = getattr(pipe, f"tokenizer{number}")
            tokenizer.add_tokens(["<toy>", "<toy>_1", "<toy>_2"])
            getattr(pipe, f"text_encoder{number}").resize_token_embeddings(len(tokenizer))
        run = runs_of(pipe, lambda p=pipe: tiny.latents(p, "a <toy> and a dog", steps=1))[0]
        assert run.phrase(0, "<toy>").columns == ((2, 3, 4),)
        assert run.phrase(0, "and").columns == ((5,),)
        assert run.phrase(0, "dog").columns == ((7,),)
        shown = pipe.maybe_convert_prompt("a <toy> and a dog", pipe.tokenizer)
        ids = pipe.tokenizer(shown).input_ids
        assert pipe.tokenizer.convert_ids_to_tokens(ids[2:5]) == ["<toy>", "<toy>_1", "<toy>_2"]


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (tiny.sdxl, "prompt_2"),
        (CASES["flux"].make, "prompt_2"),
        (CASES["sd3"].make, "prompt_2"),
        (CASES["sd3"].make, "prompt_3"),
    ],
)
def test_another_prompt_of_one_encoder_is_refused(make: Any, name: str) -> None:
    pipe = make()
    small = {"height": 32, "width": 32, "num_inference_steps": 1, "output_type": "latent"}

    def looks(run: Run) -> Guide:
        assert run.phrase(0, "cat").columns
        return Guide()

    class Reads(Guide):
        reads = frozenset({Read("cross")})

    for guide in (looks, lambda run: Reads()):
        with Guidance(Probe(guide)).attach(pipe):
            with pytest.raises(ModelError, match=f"leave out {name}"):
                pipe("a cat", **{name: "a red frog"}, **small)
            for same in ("a cat", "", ["a cat"]):  # diffusers reads an empty one as the prompt
                pipe("a cat", **{name: same}, **small)
            with pytest.raises(ModelError, match=f"leave out {name}"):
                pipe(["a cat"], **{name: [""]}, **small)


@pytest.mark.parametrize("make", [tiny.sdxl, CASES["sd3"].make])
@pytest.mark.parametrize("number", ["", "_2"])
def test_a_learnt_word_of_one_encoder_alone_is_refused(make: Any, number: str) -> None:
    pipe = make()
    tokenizer = copy.deepcopy(getattr(pipe, f"tokenizer{number}"))
    tokenizer.add_tokens(["<toy>", "<toy>_1", "<toy>_2"])
    pipe.register_modules(**{f"tokenizer{number}": tokenizer})
    getattr(pipe, f"text_encoder{number}").resize_token_embeddings(len(tokenizer))
    small = {"height": 32, "width": 32, "num_inference_steps": 1, "output_type": "latent"}

    def looks(run: Run) -> Guide:
        assert run.phrase(0, "dog").columns
        return Guide()

    with Guidance(Probe(looks)).attach(pipe):
        with pytest.raises(ModelError, match=r"into different columns.*into both tokenizers"):
            pipe("a <toy> and a dog", **small)
        pipe("a cat and a dog", **small)
    with Guidance(PLUGINS["apg"]()).attach(pipe) as attached:
        pipe("a <toy> and a dog", **small)
    assert any("into different columns" in note for note in attached.report.notes)


@pytest.mark.parametrize("make", [tiny.sdxl, CASES["sd3"].make])
def test_what_looks_for_no_words_works_beside_it_and_says_so(make: Any) -> None:
    pipe = make()
    about = {"prompt_2": "a red frog", "height": 32, "width": 32, "num_inference_steps": 2}

    def drawn(**more: Any) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return pipe("a cat", generator=generator, output_type="latent", **about, **more).images

    plain = drawn()
    with Guidance(PLUGINS["apg"](norm=0.1)).attach(pipe) as attached:
        assert not torch.equal(drawn(), plain)
        assert any("prompt_2 of its own" in note for note in attached.report.notes)
    with Guidance(PLUGINS["apg"](norm=0.1)).attach(pipe, record=True) as attached:
        drawn()
        with pytest.raises(ModelError, match="prompt_2 of its own"):
            attached.recorded[0].of("cat")


def test_t5s_columns_begin_behind_a_long_clip_part() -> None:
    case = CASES["sd3"]
    embeds, none, pooled, pooled_none = case.pipe.encode_prompt(
        PROMPTS[0], None, None, max_sequence_length=case.options["max_sequence_length"]
    )

    def longer(part: Tensor) -> Tensor:
        return torch.cat([part[:, :77], part], dim=1)

    def call() -> None:
        case.pipe(
            prompt_embeds=longer(embeds),
            negative_prompt_embeds=longer(none),
            pooled_prompt_embeds=pooled,
            negative_pooled_prompt_embeds=pooled_none,
            num_inference_steps=1,
            output_type="latent",
            **case.options,
        )

    run = runs_of(case.pipe, call, prompt=PROMPTS[0])[0]
    assert run.phrase(0, "cat").columns == ((2,), (154 + 1,))

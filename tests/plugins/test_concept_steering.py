"""Steering against the encoder's layers run by hand, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from adhere import Guidance
from adhere.errors import ModelError, ParameterError
from adhere.guides import stored
from adhere.guides.guide import Text
from adhere.guides.stored import PROBE
from adhere.pipelines.families import family_of
from adhere.pipelines.hooks.hidden import changed
from adhere.plugins.edit.concept_steering import ConceptSteering
from adhere.plugins.mathematics.autoencoder import AUTOENCODER, Autoencoder, added
from tests import tiny
from tests.leftovers import nothing_left

WIDTH, FEATURES = 32, 40


def by_hand(encoder, ids, layer=None, added=None):
    """Hidden states of a CLIP's layer, or its output with something added to those."""
    encoder, tokens = getattr(encoder, "text_model", encoder), ids.shape[1]
    mask = torch.full((tokens, tokens), -torch.inf).triu(1)[None, None]
    hidden = encoder.embeddings(input_ids=ids)
    for number, block in enumerate(encoder.encoder.layers):
        hidden = block(hidden, mask)
        if number == layer:
            if added is None:
                return hidden
            hidden = hidden + added
    return encoder.final_layer_norm(hidden)


def ids_of(pipe, text):
    return pipe.tokenizer(
        [text], padding="max_length", max_length=77, truncation=True, return_tensors="pt"
    ).input_ids


@pytest.fixture
def file(tmp_path):
    """Makes an autoencoder of random features for a layer of a pipeline's encoder."""

    def make(pipe, layer=0, name="text_encoder", told=None, **more):
        draw = torch.Generator().manual_seed(3)
        with torch.no_grad():
            probe = by_hand(getattr(pipe, name), ids_of(pipe, PROBE), layer)[0]
        tensors = {
            "encoder.weight": torch.randn(FEATURES, WIDTH, generator=draw),
            "decoder.weight": torch.randn(WIDTH, FEATURES, generator=draw) / 8,
            "pre_bias": torch.randn(WIDTH, generator=draw),
            "latent_bias": torch.randn(FEATURES, generator=draw),
            "probe": probe,
            **more,
        }
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.safetensors"
        about = {"model": "tiny", "encoder": name, "layer": told or str(layer), "k": "4"}
        stored.write(path, AUTOENCODER, {k: v for k, v in tensors.items() if v is not None}, about)
        return str(path)

    return make


def slow_direction(autoencoder, hidden):
    """Feature by feature, token by token."""
    rows = []
    for token in hidden:
        row = torch.zeros(WIDTH)
        for k in range(FEATURES):
            found = autoencoder.encoder[k] @ (token - autoencoder.pre_bias)
            found = max(0.0, float(found + autoencoder.latent_bias[k]))
            row += found * autoencoder.decoder[:, k]
        rows.append(row)
    return torch.stack(rows)


def embedded(pipe, plugin, prompts, make_run, make_step, uncond=True):
    """What a guide makes of the prompts' embeddings."""
    family = family_of(pipe)

    def encode(texts):
        return family.encode(texts).values["encoder_hidden_states"]

    def within(texts, encoder, layer, change):
        with changed(pipe, encoder, layer, change):
            return encode(texts)

    with torch.no_grad():
        given = encode(prompts)
        empty = encode([""] * len(prompts)) if uncond else None
        guide = plugin.guide(make_run(*prompts))
        found = guide.embed(make_step(0), Text(given, empty, encode, within=within))
    return found, guide


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize(("way", "sign"), [("remove", -1), ("add", 1)])
def test_the_layers_by_hand(file, make_run, make_step, layer, way, sign):
    pipe, prompts = tiny.sd1(), ["a red cat", "a photo of a blue car"]
    path = file(pipe, layer)
    plugin = ConceptSteering(path, "a big dog", way, strength=0.8)
    found, _ = embedded(pipe, plugin, prompts, make_run, make_step)
    autoencoder = Autoencoder.read(path)
    with torch.no_grad():
        concept = by_hand(pipe.text_encoder, ids_of(pipe, "a big dog"), layer)[0]
        steering = sign * 0.8 * slow_direction(autoencoder, concept)
        for row, prompt in zip(found.cond, prompts, strict=True):
            slow = by_hand(pipe.text_encoder, ids_of(pipe, prompt), layer, steering)[0]
            assert torch.allclose(row, slow, atol=1e-4)
        slow = by_hand(pipe.text_encoder, ids_of(pipe, ""), layer, -steering)[0]
    assert torch.allclose(found.uncond[1], slow, atol=1e-4)


def test_one_of_two_encoders_whose_hidden_states_are_read_on_the_way(file, make_run, make_step):
    pipe = tiny.sdxl()  # reads the output of layer 0 of both
    path = file(pipe, 0, "text_encoder_2")
    plugin = ConceptSteering(path, "a big dog", strength=0.8)
    found, _ = embedded(pipe, plugin, ["a red cat"], make_run, make_step, uncond=False)
    with torch.no_grad():
        concept, plain = (
            by_hand(pipe.text_encoder_2, ids_of(pipe, text), 0)[0]
            for text in ("a big dog", "a red cat")
        )
        other = by_hand(pipe.text_encoder, ids_of(pipe, "a red cat"), 0)[0]
    slow = plain - 0.8 * slow_direction(Autoencoder.read(path), concept)
    assert torch.allclose(found.cond[0], torch.cat([other, slow], dim=1), atol=1e-4)


def test_the_negative_prompt_may_stay(file, make_run, make_step):
    pipe = tiny.sd1()
    plugin = ConceptSteering(file(pipe), "a dog", negative=False)
    found, guide = embedded(pipe, plugin, ["a cat"], make_run, make_step)
    assert torch.equal(found.uncond, pipe.encode_prompt("", "cpu", 1, False)[0])
    assert 0 < guide.report()["features"] <= FEATURES


def test_the_rest_of_the_steps_reads_the_prompt(file):
    pipe, seen = tiny.sd1(), []

    def see(module, args, kwargs):
        seen.append(kwargs["encoder_hidden_states"])

    plugin = ConceptSteering(file(pipe), "a dog", stop=0.5)
    with nothing_left(pipe), Guidance(plugin).attach(pipe):
        layer = pipe.unet.down_blocks[0].attentions[0].transformer_blocks[0].attn2
        hook = layer.register_forward_pre_hook(see, with_kwargs=True)
        tiny.latents(pipe, "a cat", steps=4)
        hook.remove()
    plain = pipe.encode_prompt("a cat", "cpu", 1, True)
    plain = torch.cat([plain[1], plain[0]])
    assert [torch.equal(one, plain) for one in seen] == [False, False, True, True]


def test_more_and_fewer_tokens_than_the_concept():
    states, change = torch.ones(2, 3, 1), torch.tensor([[[1.0], [2.0]]])
    assert added(states, change)[:, :, 0].tolist() == [[2, 3, 1]] * 2
    assert added(states[:, :1], change)[:, :, 0].tolist() == [[2]] * 2
    assert states.sum() == 6


def refused(pipe, plugin, error, said):
    pipe.unet.forward = lambda *_, **__: pytest.fail("denoised")
    with pytest.raises(error, match=said), Guidance(plugin).attach(pipe):
        tiny.latents(pipe, "a cat")
    for layer in pipe.text_encoder.encoder.layers:
        assert not [one for one in layer._forward_hooks.values() if "adhere" in one.__module__]


def test_another_encoder_is_refused_before_any_pass(file):
    other = tiny.sd1(text_encoder=tiny.text_encoder(WIDTH, seed=8))
    plugin = ConceptSteering(file(tiny.sd1()), "a dog")
    refused(other, plugin, ParameterError, "was made with the text_encoder of the model 'tiny'")


def test_texts_of_another_length_are_of_the_same_encoder(file):
    own = Autoencoder.read(file(tiny.sd1()))
    own.check(own.probe[:3])
    own.check(torch.cat([own.probe, own.probe]))
    with pytest.raises(ParameterError, match=r"have 3 tokens here .*: max_sequence_length"):
        own.check(own.probe[:3].flip(0))
    with pytest.raises(ParameterError, match="model's is another; make"):
        own.check(own.probe.flip(0))


def test_another_layer_is_refused(file):
    pipe = tiny.sd1()
    path = file(pipe, 0)
    found = stored.read(path, AUTOENCODER, "")
    for layer, error, said in (
        ("1", ParameterError, "this model's is another"),
        ("2", ModelError, "has layers 0 to 1, and layer 2 is asked for"),
    ):
        other = found.path.with_name(f"layer-{layer}.safetensors")
        stored.write(other, AUTOENCODER, found.tensors, {**found.about, "layer": layer})
        refused(tiny.sd1(), ConceptSteering(str(other), "a dog"), error, said)


def test_an_encoder_that_is_not_there_is_refused(file):
    pipe = tiny.sdxl()
    plugin = ConceptSteering(file(pipe, 0, "text_encoder_2"), "a dog")
    refused(tiny.sd1(), plugin, ModelError, r"has no text_encoder_2 \(it has text_encoder\)")
    found = stored.read(plugin.autoencoder, AUTOENCODER, "")
    other = plugin.autoencoder + ".unet.safetensors"
    stored.write(Path(other), AUTOENCODER, found.tensors, {**found.about, "encoder": "unet"})
    refused(tiny.sd1(), ConceptSteering(other, "a dog"), ModelError, r"has no unet \(it has text")


def test_a_layer_behind_the_one_that_is_read_is_refused(file):
    pipe = tiny.sdxl()  # reads the last layer but one
    refused(pipe, ConceptSteering(file(pipe, 1), "a dog"), ModelError, "is not felt")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"probe": None}, "does not say which text encoder it is for; write it anew: .* --begin"),
        ({"pre_bias": torch.zeros(3)}, r"has .* pre_bias \(3,\).*; an autoencoder of n features"),
        ({"encoder.weight": None}, r"has encoder.weight None"),
    ],
)
def test_files_that_do_not_fit(file, more, said):
    with pytest.raises(ParameterError, match=said):
        Autoencoder.read(file(tiny.sd1(), **more))


@pytest.mark.parametrize("layer", ["last", "-1", "1.5"])
def test_a_layer_that_is_no_number_is_refused(file, layer):
    with pytest.raises(ParameterError, match=f"is for layer '{layer}', which is no whole number"):
        Autoencoder.read(file(tiny.sd1(), told=layer))


def test_what_is_not_said():
    with pytest.raises(ParameterError, match="adhere train concept-steering"):
        tiny.latents(tiny.sd1(), guidance=Guidance(ConceptSteering()))
    with pytest.raises(ParameterError, match="the concept is empty"):
        ConceptSteering("a.safetensors", " ")

"""The network against its equations, image by image, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from adhere import Guidance
from adhere.errors import ParameterError
from adhere.guides import stored
from adhere.guides.guide import Guide
from adhere.guides.stored import PROBE
from adhere.pipelines.hooks.weights import fingerprint
from adhere.plugins.mathematics.noise_network import NETWORK, NoiseNetwork, StoredNetwork
from adhere.plugins.noise.golden_noise import GoldenNoise
from tests import tiny
from tests.probes import Probe

LATENTS, WORDS = (4, 16, 16), 32


def network_of(seed=0, latents=LATENTS):
    """Weights of all kinds: fresh ones would change nothing."""
    network = NoiseNetwork(latents, WORDS, width=8)
    draw = torch.Generator().manual_seed(seed)
    for weight in network.parameters():
        weight.data = 0.2 * torch.randn(weight.shape, generator=draw)
    return network.requires_grad_(False)


@pytest.fixture
def file(tmp_path):
    """Makes files of such networks for a pipeline."""

    def make(pipe, network=None, tensors=None, **about):
        network = network or network_of()
        probe = pipe.encode_prompt(PROBE, "cpu", 1, False)[0][0].detach().mean(dim=0)
        told = {
            "model": "tiny",
            "weights": fingerprint(pipe.unet),
            "latents": "4x16x16",
            "width": "8",
            **about,
        }
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.safetensors"
        held = {**network.state_dict(), "probe": probe, **(tensors or {})}
        stored.write(path, NETWORK, held, told)
        return str(path)

    return make


def perceptron(part, rows):
    """A layer, what is above 0, a layer."""
    (one, bias), (other, last) = (
        (layer.weight.double().numpy(), layer.bias.double().numpy()) for layer in (part[0], part[2])
    )
    return np.maximum(rows @ one.T + bias, 0) @ other.T + last


def slow(network, noise, words):
    """One noise: the matrix by its parts, and every sum for itself."""
    c, h, w = noise.shape
    x = noise.double().numpy()
    matrix = np.block([[x[a * c // 2 + k] for k in range(c // 2)] for a in range(2)])
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    linear = network.values.weight.double().numpy() @ values + network.values.bias.double().numpy()
    rows = [
        perceptron(network.left, left[:, k] ** 2) + perceptron(network.right, right[k] ** 2)
        for k in range(len(values))
    ]
    g = np.mean([perceptron(network.last, row + linear) for row in rows], axis=0)
    moved = sum(np.outer(left[:, k], right[k]) * (values[k] + g[k]) for k in range(len(values)))
    recomposed = np.stack(
        [moved[a * h : (a + 1) * h, k * w : (k + 1) * w] for a in range(2) for k in range(c // 2)]
    )
    said = network.text.weight.double() @ words.double() + network.text.bias.double()
    e = (x - x.mean()) / math.sqrt(x.var() + 1e-5)
    e = e * (1 + said[:c].numpy()[:, None, None]) + said[c:].numpy()[:, None, None]
    phi = network.residual.double()(torch.from_numpy(x + e)[None])[0].numpy()
    network.residual.float()
    gate = 2 / (1 + math.exp(-float(network.alpha))) - 1
    return recomposed + gate * e + float(network.beta) * phi


def test_the_equations_noise_by_noise():
    network = network_of()
    noise, words = torch.randn(3, *LATENTS), torch.randn(3, WORDS)
    found = network(noise, words)
    for k in range(3):
        assert np.allclose(found[k].numpy(), slow(network, noise[k], words[k]), atol=1e-4)
    assert tiny.apart(found, noise) > 0.05


@pytest.mark.parametrize("latents", [(4, 16, 12), (3, 8, 8), (16, 8, 12)])
def test_a_fresh_network_changes_nothing(latents):
    noise = torch.randn(2, *latents)
    found = NoiseNetwork(latents, WORDS)(noise, torch.randn(2, WORDS))
    assert torch.allclose(found, noise, atol=1e-4)


def begun(pipe, plugin, prompts, seeds):
    """The noise before and after the plugin, and its report."""
    seen = []

    class Seeing(Guide):
        def initial(self, noise, look):
            seen.append(noise)
            return noise

    before, after = Probe(lambda run: Seeing()), Probe(lambda run: Seeing())
    with Guidance(before, plugin, after).attach(pipe) as attached:
        tiny.latents(pipe, prompt=prompts, seeds=seeds)
    return seen[0], seen[1], attached.report.plugins["golden-noise"]


@pytest.mark.parametrize("strength", [1.0, 0.4])
def test_every_image_begins_with_its_own_golden_noise(file, strength):
    pipe, prompts = tiny.sd1(), ["a red cat", "a photo of a blue car"]
    network = network_of()
    plugin = GoldenNoise(file(pipe, network), strength)
    given, found, report = begun(pipe, plugin, prompts, (4, 5))
    for k, prompt in enumerate(prompts):
        words = pipe.encode_prompt(prompt, "cpu", 1, False)[0][0].detach().mean(dim=0)
        golden = torch.from_numpy(slow(network, given[k], words)).float()
        wanted = given[k] + strength * (golden - given[k])
        assert torch.allclose(found[k], wanted, atol=1e-4)
        moved = float((wanted - given[k]).norm() / given[k].norm())
        assert report["images"][k]["moved"] == pytest.approx(moved, rel=1e-3)


def refused(pipe, plugin, said, **options):
    pipe.unet.forward = lambda *_, **__: pytest.fail("denoised")
    with pytest.raises(ParameterError, match=said), Guidance(plugin).attach(pipe):
        tiny.latents(pipe, "a cat", **options)


def test_another_model_or_encoder_or_size_is_refused_before_any_pass(file):
    pipe, other = tiny.sd1(), tiny.sd1(unet=tiny.unet(seed=3))
    path = file(pipe)
    said = r"trained for the model 'tiny' .* any_model=true"
    refused(other, GoldenNoise(path), said)
    refused(pipe, GoldenNoise(path), r"moves noise of 4x16x16 .* latents of 4x8x8", size=(16, 16))
    stranger = tiny.sd1(unet=tiny.unet(seed=3), text_encoder=tiny.text_encoder(32, seed=8))
    refused(stranger, GoldenNoise(path, any_model=True), "another text encoder")


def test_a_model_made_from_the_other_will_do(file):
    path = file(tiny.sd1())
    other = tiny.sd1(unet=tiny.unet(seed=3))
    before, after, _ = begun(other, GoldenNoise(path, any_model=True), ["a cat"], (0,))
    assert not torch.equal(before, after)


@pytest.mark.parametrize(
    ("tensors", "about"),
    [({"beta": torch.zeros(3)}, {}), ({}, {"latents": "4x8"}), ({}, {"width": "9"})],
)
def test_files_that_do_not_fit(file, tensors, about):
    with pytest.raises(ParameterError, match="does not hold the weights of a noise network"):
        StoredNetwork.read(file(tiny.sd1(), tensors=tensors, **about))


def test_a_probe_that_is_a_number_is_refused(file):
    with pytest.raises(
        ParameterError, match=r"probe of .* has 0 axes, and that of a noise network"
    ):
        StoredNetwork.read(file(tiny.sd1(), tensors={"probe": torch.tensor(1.0)}))


def test_without_a_network_it_says_how_to_make_one():
    with pytest.raises(ParameterError, match="adhere train golden-noise --model"):
        tiny.latents(tiny.sd1(), guidance=Guidance(GoldenNoise()))

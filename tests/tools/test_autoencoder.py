"""Training autoencoders: the loss against loops, features that are found again, and the command."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from adhere.errors import ParameterError
from adhere.guides import stored
from adhere.pipelines.hooks.hidden import layers_of
from adhere.pipelines.tools import autoencoder
from adhere.pipelines.tools.autoencoder import (
    AUXILIARY,
    Network,
    Plan,
    Trainer,
    hidden_states,
)
from adhere.pipelines.tools.captions import captions
from adhere.pipelines.toybox.world.captions import check_prompt
from adhere.plugins.mathematics.autoencoder import WEIGHTS, Autoencoder
from tests import tiny
from tests.command import adhere
from tests.families.cases import CASES


def made_of(features: int, channels: int, count: int) -> torch.Tensor:
    """States of which each is two of some directions, and a mean."""
    draw = torch.Generator().manual_seed(5)
    directions = torch.nn.functional.normalize(torch.randn(features, channels, generator=draw))
    chosen = torch.stack([torch.randperm(features, generator=draw)[:2] for _ in range(count)])
    amounts = 1 + torch.rand(count, 2, generator=draw)
    return 3 + (amounts[..., None] * directions[chosen]).sum(dim=1)


def test_it_learns_what_states_are_made_of() -> None:
    states = made_of(12, 16, 2000)
    trainer = Trainer(states, Plan(k=2, expansion=2, steps=600, batch=256, rate=1e-2, idle=20))
    before = trainer.network.explained(states)
    losses = list(trainer.steps())
    assert len(losses) == 600
    assert trainer.network.explained(states) > 0.95 > before + 0.2
    lengths = trainer.network.decoder.weight.norm(dim=0)
    assert torch.allclose(lengths, torch.ones(32), atol=1e-5)


def slow_loss(network: Network, states: torch.Tensor, idle: list[bool]) -> float:
    """State by state: what is left, and what idle features make of it."""
    columns, size = network.decoder.weight.T, states.shape[1]
    left, guessed = [], []
    for state in states:
        raw = [
            float(row @ (state - network.pre_bias) + bias)
            for row, bias in zip(network.encoder.weight, network.latent_bias, strict=True)
        ]
        order = sorted(range(len(raw)), key=lambda k: -raw[k])
        idlers = [k for k in order if idle[k]]
        some, others = (
            sum((max(raw[k], 0.0) * columns[k] for k in chosen), torch.zeros(size))
            for chosen in (order[: network.k], idlers[: 8 * network.k])
        )
        left.append(state - some - network.pre_bias)
        guessed.append(others)
    rest, guess = torch.stack(left), torch.stack(guessed)
    error = float(rest.pow(2).mean() / states.var(dim=0, correction=0).mean())
    own = float((guess - rest).pow(2).mean() / rest.var(dim=0, correction=0).mean())
    return error + (AUXILIARY * own if any(idle) else 0)


@pytest.mark.parametrize("unused", [0, 500])
def test_the_loss_state_by_state(unused: int) -> None:
    states = made_of(6, 8, 4)
    trainer = Trainer(states, Plan(k=3, expansion=2, idle=100))
    trainer.unused[::2] = unused
    with torch.no_grad():
        used = trainer.network.best(trainer.network.raw(states), 3)
        found = {int(k) for k, v in zip(used[1].flatten(), used[0].flatten(), strict=True) if v > 0}
        idle = [unused > 0 and k % 2 == 0 and k not in found for k in range(16)]
        slow = slow_loss(trainer.network, states, idle)
    assert any(idle) == (unused > 0)
    assert trainer._step(torch.arange(4)) == pytest.approx(slow, rel=1e-4)


def test_the_same_seed_trains_the_same() -> None:
    states = made_of(6, 8, 60)
    plan = Plan(k=2, steps=5, batch=16)
    one, two, other = Trainer(states, plan), Trainer(states, plan), Trainer(states, Plan(seed=1))
    for trainer in (one, two):
        list(trainer.steps())
    assert torch.equal(one.network.encoder.weight, two.network.encoder.weight)
    assert not torch.equal(one.network.encoder.weight, other.network.encoder.weight)


@pytest.mark.parametrize("case", ["sd3", "flux", "flux2", "chroma", "pixart", "sana", "z-image"])
def test_the_layers_of_any_text_encoder(case: str) -> None:
    pipe = CASES[case].pipe
    for name in ("text_encoder", "text_encoder_2", "text_encoder_3"):
        encoder = getattr(pipe, name, None)
        if encoder is not None:
            count = encoder.config.get_text_config().num_hidden_layers
            assert len(layers_of(pipe, name)) == count


def test_captions_are_the_toyboxs_own() -> None:
    found = captions("toybox", 50, 0)
    assert len(set(found)) > 40
    for text in found:
        check_prompt(text)
    assert captions("toybox", 50, 0) == found != captions("toybox", 50, 1)
    with pytest.raises(ParameterError, match=r"--texts prompts\.txt"):
        captions("./my-model", 50, 0)


TRAIN = ("train", "concept-steering")


@pytest.fixture
def model(tmp_path: Path) -> str:
    tiny.sd1().save_pretrained(tmp_path / "model")
    (tmp_path / "prompts.txt").write_text("\n".join(f"a {word}" for word in tiny.WORDS))
    return str(tmp_path / "model")


def test_commands_train_go_on_and_steer(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts, out = tmp_path / "prompts.txt", tmp_path / "one.safetensors"
    words = (*TRAIN, "-m", model, "--texts", texts, "-o", out, "--steps", "3", "--batch", "64")
    assert adhere(*words) == 0
    assert f"wrote {out}: layer 1 of the text_encoder" in capsys.readouterr().out
    found = Autoencoder.read(out)
    assert found.encoder.shape == (128, 32)
    assert found.stored.about["model"] == model
    assert torch.equal(
        found.probe, hidden_states(tiny.sd1(), ["a photo of a cat"], "text_encoder", 1)
    )

    plain = tmp_path / "theirs.safetensors"
    stored.write(plain, "of something else", {k: found.stored.tensors[k] for k in WEIGHTS}, {})
    again = tmp_path / "two.safetensors"
    taken = (*TRAIN, "-m", model, "--begin", plain, "--layer", "0", "--steps", "0", "-o", again)
    assert adhere(*taken) == 0
    other = Autoencoder.read(again)
    assert other.layer == 0
    assert torch.equal(other.decoder, found.decoder)
    assert not torch.equal(other.probe, found.probe)

    plugin = f"concept-steering:autoencoder={again},concept=a dog"
    small = ("--steps", "2", "--width", "32", "--height", "32", "-o", tmp_path / "o")
    assert adhere("generate", "a cat", "-m", model, "-p", plugin, *small) == 0
    assert adhere("generate", "a cat", "-p", plugin, "-o", tmp_path / "o", "--steps", "2") == 2
    assert "this model's is another" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--layer", "7"), "has layers 0 to 1, and layer 7 is asked for"),
        (("--k", "100000"), "k=100000: a state cannot be made of more features than"),
        (("--encoder", "text_encoder_2"), "has no text_encoder_2"),
        (("--begin", "no.safetensors"), "does not read as a k-sparse autoencoder"),
    ],
)
def test_what_cannot_be_trained(
    model: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    said: str,
) -> None:
    texts = ("--texts", tmp_path / "prompts.txt")
    out = tmp_path / "out.safetensors"
    assert adhere(*TRAIN, "-m", model, *texts, "-o", out, "--steps", "1", *words) == 2
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_weights_of_another_width_are_refused() -> None:
    states = made_of(6, 8, 40)
    network = Network(9, 18, 2, 0)
    begin = stored.Stored(Path("theirs.safetensors"), network.state_dict(), {})
    with pytest.raises(ParameterError, match="for hidden states of 9 channels"):
        Trainer(states, Plan(), begin)


def test_what_cannot_be_learnt_is_said_before_texts_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*given: object) -> None:
        raise AssertionError("texts were read")

    monkeypatch.setattr(autoencoder, "states_of", never)
    out, other = tmp_path / "concepts.safetensors", tmp_path / "other.safetensors"
    tensors = {name: torch.zeros(shape) for name, shape in zip(
        WEIGHTS, ((8, 3), (3, 8), (3,), (8,)), strict=True
    )}  # fmt: skip
    stored.write(other, "another program's", tensors, {})
    words = ("train", "concept-steering", "--size", "12", "--steps", "1", "-o", out)
    for more, said in (
        (("--k", "99999"), "a state cannot be made of more features than"),
        (("--begin", other), "is for hidden states of 3 channels"),
        (("--layer", "99"), "layer 99 is asked for"),
    ):
        assert adhere(*words, *more) == 2
        assert said in capsys.readouterr().err
    assert not out.exists()

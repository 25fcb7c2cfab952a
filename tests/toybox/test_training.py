"""Training: a killed and resumed run equals an uninterrupted one; no checkpoint is ever lost."""

from __future__ import annotations

import errno
import functools
import json
import shutil
import threading
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderTiny, StableDiffusion3Pipeline
from torch import Tensor, nn

from adhere import AttendAndExcite, Guidance
from adhere.pipelines.toybox import ToyboxError, check_folder, load_toybox
from adhere.pipelines.toybox.model import unet as diffusion
from adhere.pipelines.toybox.model import vae as autoencoder
from adhere.pipelines.toybox.model.transformer import build_transformer
from adhere.pipelines.toybox.training.assembly import assemble
from adhere.pipelines.toybox.training.denoisers import train_transformer, train_unet
from adhere.pipelines.toybox.training.parallel import Team
from adhere.pipelines.toybox.training.plan import Plan, load_part
from adhere.pipelines.toybox.training.stages import train_clip, train_judge, train_vae
from adhere.pipelines.toybox.training.training import Job, Trainer, load_state, rate_at, save_state
from adhere.pipelines.toybox.world.faults import Faults
from adhere.pipelines.toybox.world.world import VERSION

TINY_UNET: tuple[tuple[str, Any], ...] = (
    ("block_out_channels", (16, 32)),
    ("attention_head_dim", (2, 2)),
    ("norm_num_groups", 8),
)

TINY_TRANSFORMER: tuple[tuple[str, Any], ...] = (
    ("num_layers", 2),
    ("num_attention_heads", 1),
    ("caption_projection_dim", 32),
)


def tiny(folder: Path, **changes: Any) -> Plan:
    """A plan that runs in seconds."""
    settings: dict[str, Any] = {
        "quiet": True,
        "compile": False,
        "vae_samples": 48,
        "clip_samples": 96,
        "unet_samples": 24,
        "transformer_samples": 24,
        "judge_samples": 8,
        "pool": 40,
        "unet_changes": TINY_UNET,
        "transformer_changes": TINY_TRANSFORMER,
    }
    return Plan(folder, **{**settings, **changes})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with tiny vae and clip stages."""
    folder = tmp_path_factory.mktemp("run")
    train_vae(tiny(folder))
    train_clip(tiny(folder))
    return folder


def job(folder: Path, steps: int = 6, **changes: Any) -> Job:
    """A small regression with every feature of the loop."""
    torch.manual_seed(3)
    model = nn.Linear(4, 2)

    def loss(generator: torch.Generator) -> Tensor:
        x = torch.randn(8, 4, generator=generator)
        error: Tensor = model(x) - x[:, :2]
        return error.pow(2).mean()

    return Job("toy", folder, model, loss, steps, 8, 1e-2, quiet=True, ema=0.9, **changes)


@pytest.mark.parametrize("killed_after", [1, 3, 5])
def test_killed_and_resumed_equals_uninterrupted(tmp_path: Path, killed_after: int) -> None:
    whole = Trainer(job(tmp_path / "whole"), resume=False)
    whole.run()
    Trainer(job(tmp_path / "parts"), resume=False).run(stop_after=killed_after)
    parts = Trainer(job(tmp_path / "parts"), resume=True)
    assert parts.step == killed_after
    parts.run()
    for key, value in whole.best().items():
        assert torch.equal(value, parts.best()[key])
    assert torch.equal(whole.job.model.weight, parts.job.model.weight)  # type: ignore[arg-type]


def test_a_training_ends_when_its_time_is_up(tmp_path: Path) -> None:
    timed = job(tmp_path, steps=10**6, most_seconds=0.2)
    trainer = Trainer(timed, resume=False)
    trainer.run()
    assert 0 < trainer.step < 10**6
    assert load_state(timed.state_path)["step"] == trainer.step
    started = replace(timed, warmup=0)
    shares = [rate_at(started, 0, seconds) for seconds in (0, 0.1, 0.2)]
    assert shares == pytest.approx([1, 0.51, 0.02])


@pytest.mark.parametrize(
    ("train", "name", "batch"),
    [
        pytest.param(train_unet, "unet", 32, marks=pytest.mark.slow),
        (train_transformer, "transformer", 64),
    ],
)
def test_a_killed_denoiser_goes_on_as_if_nothing_had_been(
    run: Path, tmp_path: Path, train: Callable[[Plan], Path], name: str, batch: int
) -> None:
    states = []
    for folder, pieces in ((tmp_path / "whole", (None,)), (tmp_path / "parts", (2, None))):
        folder.mkdir()
        for part in ("vae", "text_encoder", "clip"):
            (folder / part).symlink_to(run / part)
        for stop in pieces:
            # 24 samples make one step of 24; ask for more steps than a batch would
            plan = tiny(folder, pool=20, resume=True, stop_after=stop)
            train(plan.with_samples(name, batch * 4))
        states.append(load_state(folder / f"{name}.state.pt"))
    assert states[0]["step"] == states[1]["step"] == 4
    for key, value in states[0]["average"].items():
        assert torch.equal(value, states[1]["average"][key])


def test_a_killed_transformer_makes_a_pipeline_that_can_be_guided(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for part in ("vae", "text_encoder", "clip"):
        (folder / part).symlink_to(run / part)
    train_transformer(tiny(folder, pool=20, transformer_samples=256, stop_after=2))
    shutil.rmtree(folder / "transformer")  # killed: only the checkpoint is there
    small = functools.partial(build_transformer, **dict(TINY_TRANSFORMER))
    monkeypatch.setattr("adhere.pipelines.toybox.training.assembly.build_transformer", small)
    assemble(folder, tmp_path / "model", "toybox-sd3")
    assert check_folder(tmp_path / "model") == []
    pipe = load_toybox(folder=tmp_path / "model")
    assert isinstance(pipe, StableDiffusion3Pipeline)
    asked = {"num_inference_steps": 2, "output_type": "latent"}

    def picture() -> Tensor:
        found: Tensor = pipe(
            "a red cat and a blue car", generator=torch.Generator().manual_seed(1), **asked
        ).images
        return found

    plain = picture()
    assert plain.shape == (1, 8, 16, 16)
    with Guidance(AttendAndExcite()).attach(pipe):
        assert not torch.equal(picture(), plain)
    assert torch.equal(picture(), plain)


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    trainer = Trainer(job(tmp_path), resume=False)
    trainer.run()
    path = trainer.job.state_path
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ToyboxError, match="damaged"):
        Trainer(job(tmp_path), resume=True)
    with pytest.raises(ToyboxError, match="no checkpoint"):
        load_state(tmp_path / "nothing.pt")


def test_a_checkpoint_of_another_shape_is_refused(tmp_path: Path) -> None:
    Trainer(job(tmp_path), resume=False).run()
    other = job(tmp_path)
    other.model = nn.Linear(5, 2)
    with pytest.raises(ToyboxError, match="another configuration"):
        Trainer(other, resume=True)


def test_a_checkpoint_of_another_world_is_refused_and_kept(run: Path, tmp_path: Path) -> None:
    for part in ("vae", "text_encoder"):
        (tmp_path / part).symlink_to(run / part)
    plan = tiny(tmp_path, pool=20, unet_samples=96, batch=8, stop_after=2)
    train_unet(plan)
    before = (tmp_path / "unet.state.pt").read_bytes()
    other = replace(plan, resume=True, faults=Faults(left_out=0.1))
    with pytest.raises(ToyboxError, match=r"another world: left_out 0.4 \(now 0.1\)"):
        train_unet(other)
    assert (tmp_path / "unet.state.pt").read_bytes() == before
    log = json.loads((tmp_path / "unet.log.json").read_text())
    assert log["about"] == {"world": VERSION, **asdict(Faults())}
    train_unet(replace(plan, resume=True, stop_after=3))
    assert load_state(tmp_path / "unet.state.pt")["step"] == 3


def test_finished_parts_are_taken_over(run: Path, tmp_path: Path) -> None:
    plan = tiny(tmp_path / "run", pool=20, unet_samples=8, stop_after=1, parts=run)
    train_unet(plan)
    for part in ("vae", "clip", "text_encoder"):
        assert (tmp_path / "run" / part / "config.json").is_file()
    with pytest.raises(ToyboxError, match="has no vae"):
        train_unet(replace(plan, parts=tmp_path))


def test_a_full_disk_keeps_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.pt"
    save_state({"step": 1}, path)

    def full(value: object, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("torch.save", full)
    with pytest.raises(ToyboxError, match=r"No space left.*is kept"):
        save_state({"step": 2}, path)
    monkeypatch.undo()
    assert load_state(path) == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["state.pt"]


def test_a_stage_without_its_predecessor_says_so(tmp_path: Path) -> None:
    with pytest.raises(ToyboxError, match="train the stage before"):
        train_unet(tiny(tmp_path))
    with pytest.raises(ToyboxError, match="train the stage before"):
        train_judge(tiny(tmp_path))


def test_a_damaged_part_is_named(run: Path, tmp_path: Path) -> None:
    (tmp_path / "vae").mkdir()
    for file in (run / "vae").iterdir():
        (tmp_path / "vae" / file.name).write_bytes(file.read_bytes()[:200])
    with pytest.raises(ToyboxError, match="damaged"):
        load_part(AutoencoderTiny, tmp_path / "vae")


def test_the_encoder_is_the_closed_form() -> None:
    images = autoencoder.pictures(3, 40)
    matrix, mean, kept = autoencoder.principal_components(images)
    vae = autoencoder.build_vae()
    autoencoder.write_encoder(vae, matrix, mean)
    direct = autoencoder.encode_patches(images, matrix, mean)
    with torch.no_grad():
        encoded = vae.encode(autoencoder.to_model(images)).latents
    assert torch.allclose(direct, encoded, atol=1e-5)
    assert encoded.shape == (40, 8, 16, 16)
    assert 0.85 < kept <= 1
    assert float((encoded * autoencoder.SCALING).pow(2).mean()) == pytest.approx(1, abs=0.02)
    again, _, _ = autoencoder.principal_components(images)
    assert torch.equal(matrix, again)
    back, centre = autoencoder.linear_map(vae)
    assert torch.allclose(back, matrix, atol=1e-5)
    assert torch.allclose(autoencoder.encode_patches(images, back, centre), direct, atol=1e-4)


def test_word_columns_leave_out_the_end_and_the_padding() -> None:
    ids = torch.tensor([[7, 1, 2, 9, 9, 9]])
    assert diffusion.word_columns(ids).tolist() == [[1, 1, 1, 0, 0, 0]]
    alphas = diffusion.build_scheduler().alphas_cumprod
    snr = alphas / (1 - alphas)
    weights = diffusion.loss_weights(alphas, torch.arange(len(alphas)))
    in_picture = weights * (1 + snr)  # an error in v is (1 + snr) errors in the picture
    assert in_picture.max() == pytest.approx(5, rel=1e-3)
    assert torch.allclose(in_picture[snr < 1], snr[snr < 1].sqrt(), rtol=1e-3)
    assert 0.001 < float(snr[-1]) < 0.002


def test_velocity_is_the_schedulers() -> None:
    generator = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, 3, 8, 16, 16, generator=generator)
    scheduler = diffusion.build_scheduler()
    t = torch.tensor([10, 400, 890])
    kept = scheduler.alphas_cumprod[t]
    theirs = scheduler.get_velocity(latents, noise, t)
    assert torch.allclose(diffusion.velocity(latents, noise, kept), theirs, atol=1e-6)
    noisy = scheduler.add_noise(latents, noise, t)
    assert torch.allclose(diffusion.noised(latents, noise, kept), noisy, atol=1e-6)


def test_a_team_averages_its_gradients() -> None:
    buffer = torch.zeros(2, 3)
    barrier = threading.Barrier(2)
    models = [nn.Linear(2, 1) for _ in range(2)]
    for rank, model in enumerate(models):
        model.weight.grad = torch.full((1, 2), float(rank + 1))
        model.bias.grad = torch.full((1,), 4.0 * rank)

    def enter(rank: int) -> None:
        Team(rank, 2, buffer, barrier).average_gradients(models[rank])  # type: ignore[arg-type]

    threads = [threading.Thread(target=enter, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for model in models:
        assert model.weight.grad is not None
        assert model.weight.grad.tolist() == [[1.5, 1.5]]
        assert model.bias.grad is not None
        assert model.bias.grad.tolist() == [2.0]

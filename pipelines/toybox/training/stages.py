"""The stages of `adhere toybox train`, each of which writes its part of the run folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from torch import Tensor
from transformers import CLIPModel

from adhere.pipelines.toybox.judge.calibration import calibrate
from adhere.pipelines.toybox.model import vae as autoencoder
from adhere.pipelines.toybox.model.clip import (
    build_clip,
    contrastive_loss,
    text_encoder_of,
    trimmed,
)
from adhere.pipelines.toybox.model.tokenizer import build_tokenizer, save_tokenizer
from adhere.pipelines.toybox.model.vae import to_model
from adhere.pipelines.toybox.training.data import picture_pool
from adhere.pipelines.toybox.training.denoisers import train_transformer, train_unet
from adhere.pipelines.toybox.training.plan import Plan, autocast, load_part
from adhere.pipelines.toybox.training.training import Job, Trainer, write_json


def train_vae(plan: Plan) -> Path:
    """Closed-form encoder, then the decoder's regression. Returns the VAE's folder."""
    torch.manual_seed(plan.seed)
    batch = 16
    steps = plan.steps(plan.vae_samples, batch)
    pool = autoencoder.pictures(plan.seed + 10, min(plan.vae_samples, 12_000))
    matrix, mean, kept = autoencoder.principal_components(pool[:4000])
    model = autoencoder.build_vae()
    autoencoder.write_encoder(model, matrix, mean)
    model.encoder.requires_grad_(False)
    model.to(plan.device)

    def loss(generator: torch.Generator) -> Tensor:
        pick = torch.randint(len(pool), (batch,), generator=generator)
        images = pool[pick]
        latents = autoencoder.encode_patches(images, matrix, mean)
        spread = torch.rand(batch, 1, 1, 1, generator=generator) * 0.25 / autoencoder.SCALING
        noise = torch.randn(latents.shape, generator=generator) * spread
        with autocast(plan.device):
            return autoencoder.decoder_loss(
                model, images.to(plan.device), latents.to(plan.device), noise.to(plan.device)
            )

    job = Job("vae", plan.out, model, loss, steps, batch, 2e-3, plan.seed, 50, ema=0.995)
    trainer = Trainer(replace(job, quiet=plan.quiet), plan.resume)
    trainer.run(plan.stop_after)
    model.load_state_dict(trainer.best())
    model.cpu().float().save_pretrained(plan.out / "vae")
    held_out = autoencoder.pictures(plan.seed + 99, 200)
    quality = autoencoder.psnr(held_out, autoencoder.round_trip(model, held_out))
    write_json(
        {"variance_kept": round(kept, 5), "psnr": round(float(quality.mean()), 2)},
        plan.out / "vae.quality.json",
    )
    return plan.out / "vae"


def train_clip(plan: Plan) -> Path:
    """Tokenizer, then both encoders contrastively. Returns the CLIP's folder."""
    torch.manual_seed(plan.seed)
    batch = min(128, plan.clip_samples)
    save_tokenizer(plan.out / "tokenizer")
    tokenizer = build_tokenizer()
    pool = picture_pool(plan.seed + 20, min(plan.pool // 2, plan.clip_samples), tokenizer)
    model = build_clip(tokenizer).to(plan.device)

    def loss(generator: torch.Generator) -> Tensor:
        pick = torch.randint(len(pool), (batch,), generator=generator)
        which = torch.randint(pool.ids.shape[1], (batch,), generator=generator)
        ids = trimmed(pool.ids[pick, which].long()).to(plan.device)
        images = to_model(pool.images[pick]).to(plan.device)
        same = (ids[:, None] == ids[None]).all(-1)
        with autocast(plan.device):
            return contrastive_loss(model, images, ids, same)

    steps = plan.steps(plan.clip_samples, batch)
    job = Job("clip", plan.out, model, loss, steps, batch, 1.5e-3, plan.seed, 60, ema=0.99)
    trainer = Trainer(replace(job, quiet=plan.quiet), plan.resume)
    trainer.run(plan.stop_after)
    model.load_state_dict(trainer.best())
    model.cpu().float().save_pretrained(plan.out / "clip")
    tokenizer.save_pretrained(str(plan.out / "clip"))
    text_encoder_of(model).save_pretrained(plan.out / "text_encoder")
    write_json(retrieval(model, plan.seed + 98), plan.out / "clip.quality.json")
    return plan.out / "clip"


@torch.no_grad()
def retrieval(model: CLIPModel, seed: int, count: int = 100) -> dict[str, float]:
    """Share of held-out captions whose picture is the best of 100, and of pictures likewise."""
    pool = picture_pool(seed, count, build_tokenizer())
    logits = model(
        input_ids=pool.ids[:, 0].long(), pixel_values=to_model(pool.images)
    ).logits_per_text
    target = torch.arange(count)
    return {
        "text_to_image": float((logits.argmax(1) == target).float().mean()),
        "image_to_text": float((logits.argmax(0) == target).float().mean()),
    }


def train_judge(plan: Plan) -> Path:
    """Measures the judge and sets its threshold. Returns the file with both."""
    vae = load_part(AutoencoderTiny, plan.out / "vae")
    count = max(8, plan.judge_samples)
    write_json(calibrate(vae, plan.seed + 40, count), plan.out / "judge.json")
    return plan.out / "judge.json"


STAGES = {
    "vae": train_vae,
    "clip": train_clip,
    "unet": train_unet,
    "judge": train_judge,
    "transformer": train_transformer,
}
ALL = ("vae", "clip", "unet", "judge")
"""The stages of `toybox`; `transformer` makes `toybox-sd3` out of the first two."""

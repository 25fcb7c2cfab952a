"""Small random pipelines of the transformer families, made from configs."""

from __future__ import annotations

import functools
from typing import Any

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    ChromaPipeline,
    ChromaTransformer2DModel,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    FluxPipeline,
    FluxTransformer2DModel,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SanaPipeline,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    Gemma2Config,
    Gemma2Model,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
)

from tests import tiny


@functools.cache
def _t5_tokenizer() -> Tokenizer:
    """Like T5's: unigrams with a metaspace; words of `tiny.WORDS` are one token, others letters."""
    letters = [(chr(code), -10.0) for code in range(ord("!"), ord("~") + 1)]
    words = [(f"▁{word}", -1.0) for word in tiny.WORDS]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *words, *letters]
    made = Tokenizer(models.Unigram(pieces, unk_id=2))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return made


def t5_tokenizer(length: int = 512) -> Any:
    return PreTrainedTokenizerFast(
        tokenizer_object=_t5_tokenizer(),
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=length,
    )


def t5_encoder(width: int = 32, seed: int = 5) -> Any:
    torch.manual_seed(seed)
    config = T5Config(
        vocab_size=_t5_tokenizer().get_vocab_size(),
        d_model=width,
        d_kv=8,
        d_ff=2 * width,
        num_layers=2,
        num_heads=2,
        decoder_start_token_id=0,
    )
    return T5EncoderModel(config).eval()


def vae(channels: int = 4, seed: int = 0) -> AutoencoderKL:
    torch.manual_seed(seed)
    return AutoencoderKL(
        block_out_channels=[8, 16],
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=32,
        use_quant_conv=False,
        use_post_quant_conv=False,
        shift_factor=0.06,
        scaling_factor=1.5,
    ).eval()


def lively(model: Any, seed: int = 3) -> Any:
    """Give a transformer, whose gates start at zero, weights that make every part matter."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            fan = weight.shape[1] if weight.ndim > 1 else 16
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.5 * fan**-0.5)
    return model.eval()


def sd3_parts(**changes: Any) -> dict[str, Any]:
    torch.manual_seed(0)
    transformer = SD3Transformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=4,
        num_layers=4,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=64,
        caption_projection_dim=16,
        pooled_projection_dim=64,
        out_channels=4,
        pos_embed_max_size=24,
        dual_attention_layers=(1,),
        qk_norm="rms_norm",
    )
    return {
        "transformer": lively(transformer),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0),
        "vae": vae(),
        "text_encoder": tiny.text_encoder(32, projection=True),
        "tokenizer": tiny.tokenizer(),
        "text_encoder_2": tiny.text_encoder(32, projection=True, seed=1),
        "tokenizer_2": tiny.tokenizer(),
        "text_encoder_3": t5_encoder(64),
        "tokenizer_3": t5_tokenizer(),
        **changes,
    }


def quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


def sd3(**changes: Any) -> Any:
    return quiet(StableDiffusion3Pipeline(**sd3_parts(**changes)))


def flux_parts(guided: bool = True, **changes: Any) -> dict[str, Any]:
    torch.manual_seed(0)
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        guidance_embeds=guided,
        axes_dims_rope=(4, 6, 6),
    )
    return {
        "transformer": lively(transformer),
        "scheduler": FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        "vae": vae(),
        "text_encoder": tiny.text_encoder(32),
        "tokenizer": tiny.tokenizer(),
        "text_encoder_2": t5_encoder(32),
        "tokenizer_2": t5_tokenizer(),
        **changes,
    }


def flux(guided: bool = True, **changes: Any) -> Any:
    return quiet(FluxPipeline(**flux_parts(guided, **changes)))


def chroma_parts(**changes: Any) -> dict[str, Any]:
    torch.manual_seed(0)
    transformer = ChromaTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        axes_dims_rope=(4, 6, 6),
        approximator_num_channels=16,
        approximator_hidden_dim=32,
        approximator_layers=1,
    )
    return {
        "transformer": lively(transformer),
        "scheduler": FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        "vae": vae(),
        "text_encoder": t5_encoder(32),
        "tokenizer": t5_tokenizer(),
        **changes,
    }


def chroma(**changes: Any) -> Any:
    return quiet(ChromaPipeline(**chroma_parts(**changes)))


def pixart_parts(**changes: Any) -> dict[str, Any]:
    torch.manual_seed(0)
    transformer = PixArtTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=4,
        cross_attention_dim=16,
        sample_size=16,
        patch_size=2,
        caption_channels=32,
        use_additional_conditions=False,
    )
    return {
        "transformer": lively(transformer),
        "scheduler": DPMSolverMultistepScheduler(),
        "vae": vae(),
        "text_encoder": t5_encoder(32),
        "tokenizer": t5_tokenizer(),
        **changes,
    }


def pixart(**changes: Any) -> Any:
    return quiet(PixArtSigmaPipeline(**pixart_parts(**changes)))


def gemma_tokenizer() -> Any:
    """Like Gemma's: a start token and no end token."""
    made = Tokenizer.from_str(_t5_tokenizer().to_str())
    made.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", 1)]
    )
    made.add_special_tokens(["<bos>"])
    start = made.token_to_id("<bos>")
    made.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", start)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<bos>", pad_token="<pad>", unk_token="<unk>"
    )


def gemma(width: int = 32, seed: int = 6) -> Any:
    torch.manual_seed(seed)
    config = Gemma2Config(
        vocab_size=len(gemma_tokenizer()),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        pad_token_id=0,
    )
    return Gemma2Model(config).eval()


def dc_ae() -> AutoencoderDC:
    torch.manual_seed(0)
    return AutoencoderDC(
        latent_channels=4,
        encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        encoder_qkv_multiscales=((), (5,)),
        decoder_qkv_multiscales=((), (5,)),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
        attention_head_dim=2,
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
        scaling_factor=0.41407,
    ).eval()


def sana_parts(**changes: Any) -> dict[str, Any]:
    torch.manual_seed(0)
    transformer = SanaTransformer2DModel(
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=4,
        num_attention_heads=2,
        attention_head_dim=8,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=32,
        sample_size=32,
    )
    return {
        "transformer": lively(transformer),
        "scheduler": DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
        "vae": dc_ae(),
        "text_encoder": gemma(),
        "tokenizer": gemma_tokenizer(),
        **changes,
    }


def sana(**changes: Any) -> Any:
    return quiet(SanaPipeline(**sana_parts(**changes)))


def chat_tokenizer() -> Any:
    """No token of its own at either end; a chat template instead."""
    made = Tokenizer.from_str(_t5_tokenizer().to_str())
    made.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    found = PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", unk_token="<unk>", eos_token="</s>"
    )
    found.chat_template = "the photo: {{ messages[0]['content'] }} and big"
    return found


def qwen_encoder(width: int = 32) -> Any:
    torch.manual_seed(8)
    config = Qwen2_5_VLConfig(
        text_config={
            "hidden_size": width,
            "intermediate_size": 2 * width,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "rope_scaling": {"mrope_section": [2, 2, 4], "rope_type": "default", "type": "default"},
            "vocab_size": len(chat_tokenizer()),
            "pad_token_id": 0,
            "bos_token_id": None,
            "eos_token_id": 1,
        },
        vision_config={
            "depth": 1,
            "hidden_size": 8,
            "intermediate_size": 8,
            "num_heads": 2,
            "out_hidden_size": width,
        },
    )
    return Qwen2_5_VLForConditionalGeneration(config).eval()


def qwen_parts(**changes: Any) -> dict[str, Any]:
    torch.manual_seed(0)
    transformer = QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=16,
        out_channels=4,
        num_layers=4,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        axes_dims_rope=(4, 6, 6),
    )
    vae = AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 1],
        num_res_blocks=1,
        temperal_downsample=[True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    ).eval()
    return {
        "transformer": lively(transformer),
        "scheduler": FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        "vae": vae,
        "text_encoder": qwen_encoder(),
        "tokenizer": chat_tokenizer(),
        **changes,
    }


def qwen(**changes: Any) -> Any:
    pipe = QwenImagePipeline(**qwen_parts(**changes))
    pipe.prompt_template_encode = "the photo of a big {} and so"
    pipe.prompt_template_encode_start_idx = 4
    return quiet(pipe)


def qwen3(width: int = 32, layers: int = 2) -> Qwen3Config:
    return Qwen3Config(
        vocab_size=len(chat_tokenizer()),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        pad_token_id=0,
    )


def flux2_parts(**changes: Any) -> dict[str, Any]:
    torch.manual_seed(0)
    transformer = Flux2Transformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=96,
        timestep_guidance_channels=16,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=False,
    )
    vae = AutoencoderKLFlux2(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=32,
    ).eval()
    torch.manual_seed(7)
    return {
        "transformer": lively(transformer),
        "scheduler": FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        "vae": vae,
        "text_encoder": Qwen3ForCausalLM(qwen3(layers=27)).eval(),
        "tokenizer": chat_tokenizer(),
        **changes,
    }


def flux2(**changes: Any) -> Any:
    return quiet(Flux2KleinPipeline(**flux2_parts(**changes)))


def z_image_parts(**changes: Any) -> dict[str, Any]:
    torch.manual_seed(0)
    transformer = ZImageTransformer2DModel(
        in_channels=4,
        dim=32,
        n_layers=4,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=32,
        axes_dims=[4, 6, 6],
        axes_lens=[1024, 32, 32],
    )
    torch.manual_seed(7)
    encoder = Qwen3Model(qwen3()).eval()
    return {
        "transformer": lively(transformer),
        "scheduler": FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        "vae": vae(),
        "text_encoder": encoder,
        "tokenizer": chat_tokenizer(),
        **changes,
    }


def z_image(**changes: Any) -> Any:
    return quiet(ZImagePipeline(**z_image_parts(**changes)))

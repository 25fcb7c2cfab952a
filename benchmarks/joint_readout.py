"""Memory of reading a joint attention layer, against the layer's own activations, at FLUX's size.

    python benchmarks/joint_readout.py            # counts on the meta device, and writes results/
    python benchmarks/joint_readout.py --measure  # peak memory at a quarter of the size, on the CPU

4096 picture tokens, 512 text tokens, 24 heads of 128 channels, bfloat16, one picture. Counted are
the bytes that autograd keeps for the backward pass of one double block, and what the read-out adds:
the map, and the largest chunk at work in its forward or backward pass.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.models.transformers.transformer_flux import FluxTransformerBlock
from torch import Tensor

from adhere.pipelines.families import rows
from adhere.pipelines.families.rows import mean_over_heads

PICTURE, TEXT, HEADS, WIDTH = 4096, 512, 24, 128
RESULTS = Path(__file__).parent / "results" / "joint_readout.json"
SINGLE = 4
"""Bytes of a float32."""


def kept_by_block(device: str = "meta") -> int:
    """Bytes that one double block keeps for its backward pass, weights left out."""
    with torch.device(device):
        block = FluxTransformerBlock(HEADS * WIDTH, HEADS, WIDTH).to(torch.bfloat16)
        block.requires_grad_(False)
        hidden = torch.empty(1, PICTURE, HEADS * WIDTH, dtype=torch.bfloat16, requires_grad=True)
        text = torch.empty(1, TEXT, HEADS * WIDTH, dtype=torch.bfloat16, requires_grad=True)
        moment = torch.empty(1, HEADS * WIDTH, dtype=torch.bfloat16)
        turns = tuple(torch.empty(PICTURE + TEXT, WIDTH) for _ in range(2))
    weights = {id(weight) for weight in block.parameters()}
    kept: dict[Any, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if id(tensor) not in weights and not isinstance(tensor, torch.nn.Parameter):
            storage = tensor.untyped_storage()
            # The meta device's attention keeps its matrix; fused kernels do not.
            if storage.nbytes() < HEADS * (PICTURE + TEXT) ** 2:
                kept[storage._cdata] = storage.nbytes()
        held.append(tensor)
        return tensor

    held: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        block(hidden, text, moment, image_rotary_emb=turns)
    names = {weight.untyped_storage()._cdata for weight in block.parameters()}
    return sum(size for key, size in kept.items() if key not in names)


def added_by_readout() -> dict[str, int]:
    """Bytes of the read-out: what stays, and the peak of its forward and backward passes."""
    keys = PICTURE + TEXT
    chunk = HEADS * keys * max(1, rows.CHUNK // (HEADS * keys)) * SINGLE
    one = HEADS * WIDTH * keys * SINGLE  # the keys, or their gradient, in float32
    mapped = PICTURE * TEXT * SINGLE
    query = HEADS * WIDTH * PICTURE * 2
    forward = mapped + one + 2 * chunk
    # Keys twice (as they are and turned is one storage), both gradients, p and its slope.
    backward = 2 * mapped + 2 * one + query + 3 * chunk
    return {"map": mapped, "forward_peak": forward, "backward_peak": backward}


def measure() -> dict[str, float]:
    """Peak bytes of the read-out at a sixteenth of the tokens' product, against its formula."""
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    query = torch.randn(1, HEADS, PICTURE // 4, WIDTH, dtype=torch.bfloat16, requires_grad=True)
    key = torch.randn(
        1, HEADS, (PICTURE + TEXT) // 4, WIDTH, dtype=torch.bfloat16, requires_grad=True
    )
    mapped = mean_over_heads(query, key, WIDTH**-0.5, slice(0, TEXT // 4))
    torch.autograd.grad(mapped.square().sum(), [query, key])
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"grown_mib": (after - before) / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--measure", action="store_true", help="peak memory, on the CPU")
    if parser.parse_args().measure:
        print(measure())
        return
    own, readout = kept_by_block(), added_by_readout()
    whole = HEADS * (PICTURE + TEXT) ** 2 * SINGLE
    found = {
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "device": "meta: counted, not measured",
        "picture_tokens": PICTURE,
        "text_tokens": TEXT,
        "heads": HEADS,
        "block_activations_bytes": own,
        "readout_bytes": readout,
        "readout_peak_over_activations": round(readout["backward_peak"] / own, 3),
        "kept_over_activations": round(readout["map"] / own, 4),
        "full_matrix_bytes": whole,
        "full_matrix_over_activations": round(whole / own, 2),
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()

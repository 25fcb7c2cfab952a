"""What the extra passes of a run may cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from adhere.errors import ParameterError


@dataclass(frozen=True)
class Memory:
    """What the extra passes may cost.

    Attributes:
        checkpointing: recompute activations in the backward pass instead of keeping them.
        sub_batch: images that go through a gradient pass at once; all when None.
        layers: glob patterns of the attention layers to read; the family's choice when empty.
    """

    checkpointing: bool = False
    sub_batch: int | None = None
    layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        size: Any = self.sub_batch
        layers: Any = self.layers
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
            raise ParameterError(f"sub_batch={size!r} is not a number of images, 1 or more")
        if not isinstance(self.checkpointing, bool):
            raise ParameterError(f"checkpointing={self.checkpointing!r} is neither True nor False")
        if not isinstance(layers, (list, tuple)) or not all(isinstance(x, str) for x in layers):
            raise ParameterError(
                f"layers={layers!r} is not a tuple of patterns; write ('*.attn2',), with the comma"
            )
        object.__setattr__(self, "layers", tuple(layers))

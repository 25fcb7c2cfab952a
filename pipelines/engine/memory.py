"""What the extra passes of a run may cost."""

from __future__ import annotations

from dataclasses import dataclass

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
        if self.sub_batch is not None and self.sub_batch < 1:
            raise ParameterError(f"sub_batch={self.sub_batch} is not a number of images, 1 or more")

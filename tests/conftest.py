"""What all tests share: quiet libraries, one thread, the same random numbers every time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _same_every_time() -> Iterator[None]:
    """Tests see the same random numbers in any order, and leave torch's switches as they were."""
    before = torch.get_default_dtype(), torch.is_grad_enabled()
    torch.manual_seed(0)
    yield
    assert (torch.get_default_dtype(), torch.is_grad_enabled()) == before


def pytest_configure(config: pytest.Config) -> None:
    torch.set_num_threads(1)
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.set_verbosity_error()
    transformers_logging.set_verbosity_error()
    for kind in ("DeprecationWarning", "FutureWarning"):
        config.addinivalue_line("filterwarnings", f"ignore::{kind}:diffusers.*")

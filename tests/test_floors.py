"""Every dependency, also of the extras, says its lowest version, so that the job can pin it."""

from __future__ import annotations

import tomllib

import pytest

from tests import floors

EXTRAS = tomllib.loads(floors.PROJECT.read_text("utf-8"))["project"]["optional-dependencies"]


@pytest.mark.parametrize("extra", sorted(set(EXTRAS) - {"dev", "docs"}))
def test_every_extra_has_floors(extra: str) -> None:
    core, whole = floors.pins(), floors.pins((extra,))
    assert whole[: len(core)] == core
    own = [one for one in EXTRAS[extra] if ">=" in one]
    assert len(whole) - len(core) == len(own)

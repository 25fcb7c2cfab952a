"""Every example of docs/modular.md is executed, on small random models."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from diffusers.modular_pipelines import ModularPipeline

from tests.families.modular_cases import CASES

PAGE = Path(__file__).parents[2] / "docs" / "modular.md"
EXAMPLES = dict(
    re.findall(r"<!-- example: (\w+) -->\n```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
)
FAMILY = {"loop": "sd3", "block": "sdxl", "guider": "qwen-image"}


def test_every_example_is_known() -> None:
    assert set(EXAMPLES) == set(FAMILY)


@pytest.mark.parametrize("name", FAMILY)
def test_an_example_runs(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    case = CASES[FAMILY[name]]

    def load(pipe: Any) -> None:
        """In place of a download: small parts, where the example loads published ones."""
        parts = case.classic().components
        pipe.update_components(**{k: v for k, v in parts.items() if k in pipe.component_names})
        pipe.set_progress_bar_config(disable=True)

    monkeypatch.setattr(ModularPipeline, "load_components", load)
    code, repositories = re.subn(r'init_pipeline\(".*?"\)', "init_pipeline()", EXAMPLES[name])
    code, calls = re.subn(r'output="images"', 'output="images", **small', code)
    assert (repositories, calls) == (1, 1)
    found: dict[str, Any] = {"small": {"num_inference_steps": 2, "height": 64, "width": 48}}
    exec(compile(code, str(PAGE), "exec"), found)
    assert [picture.size for picture in found["images"]] == [(48, 64)]
    if name == "block":
        assert "attend-and-excite" in capsys.readouterr().out

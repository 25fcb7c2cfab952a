"""One test for each private name in `pipelines/hooks/compat.py`: is it still there, and the same?

A failure here names what a new release of diffusers, torch or Python has taken away; the comment
beside the name says what to use in its place.
"""

from __future__ import annotations

import ast
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers.guiders import ClassifierFreeGuidance
from diffusers.models import attention_dispatch
from diffusers.modular_pipelines.modular_pipeline import BlockState
from torch import nn

from adhere.errors import GuidanceWarning
from adhere.pipelines.families import family_of
from adhere.pipelines.hooks import compat, versions
from tests import tiny

ROOT = Path(__file__).resolve().parents[2]


def test_orig_mod() -> None:
    inner = nn.Linear(1, 1)
    assert compat.unwrapped(torch.compile(inner, backend="eager")) is inner
    assert compat.unwrapped(inner) is inner


def test_compiled_call_impl() -> None:
    module = nn.Linear(1, 1)
    assert not compat.compiled_in_place(module)
    module.compile(backend="eager")
    assert compat.compiled_in_place(module)


def test_torchdynamo_orig_callable() -> None:
    module = nn.Linear(1, 1)
    assert not compat.holds_compiled(module)
    module.forward = torch.compile(module.forward, backend="eager")  # type: ignore[method-assign]
    assert compat.holds_compiled(module)


def test_dummy_thread() -> None:
    """As the autograd engine's: a thread that Python's threading module has not started."""
    import _thread

    seen: list[bool] = []
    done = threading.Event()

    def note() -> None:
        seen.append(compat.in_foreign_thread())
        done.set()

    _thread.start_new_thread(note, ())
    assert done.wait(10)
    thread = threading.Thread(target=note)
    thread.start()
    thread.join()
    assert seen == [True, False]


def test_sigma_to_alpha_sigma_t() -> None:
    scheduler = diffusers.DPMSolverSinglestepScheduler()
    picture, noise = map(float, compat.picture_and_noise(scheduler, torch.tensor(2.0)))
    assert picture == pytest.approx(5**-0.5)
    assert noise == pytest.approx(2 * 5**-0.5)


def test_foreach_lerp() -> None:
    shadows = [torch.zeros(2), torch.ones(1)]
    compat.move_towards(shadows, [torch.ones(2), torch.zeros(1)], 0.25)
    assert [shadow.tolist() for shadow in shadows] == [[0.25, 0.25], [0.75]]


def test_diffusers_hook() -> None:
    unet = tiny.unet()
    assert not any(map(compat.hook_names, unet.modules()))
    unet.enable_layerwise_casting(torch.float8_e4m3fn, compute_dtype=torch.float32)
    names = {name for module in unet.modules() for name in compat.hook_names(module)}
    assert any("layerwise_casting" in name for name in names)


def test_attention_backend() -> None:
    """What `set_attention_backend` chooses is undone inside, and put back."""
    from tests.families import pipes

    model = pipes.flux().transformer
    assert isinstance(model, diffusers.FluxTransformer2DModel)
    processors = [m.processor for m in model.modules() if hasattr(m, "processor")]
    registry = attention_dispatch._AttentionBackendRegistry
    before = registry.get_active_backend()[0]
    model.set_attention_backend("_native_math")
    try:
        chosen = [processor._attention_backend for processor in processors]
        assert all(chosen)
        with compat.without_chosen_backends(model):
            assert not any(processor._attention_backend for processor in processors)
        assert [processor._attention_backend for processor in processors] == chosen
    finally:
        model.reset_attention_backend()
        registry.set_active_backend(before)  # `set_attention_backend` chose it for everybody


def test_z_images_positions_can_be_moved() -> None:
    """Its embedder is asked for every token's place, and is put back."""
    from tests.families import pipes

    model = pipes.z_image().transformer
    before, asked = model.rope_embedder, []

    def moved(places: torch.Tensor) -> torch.Tensor:
        asked.append(places)
        return places

    picture, text = torch.randn(4, 1, 8, 8), torch.randn(5, 32)
    with torch.no_grad(), compat.positions_moved(model, moved):
        model([picture], torch.tensor([0.5]), [text])
    assert model.rope_embedder is before
    assert {int(places[0, 0]) for places in asked} == {1, 33}  # the text's first, the picture's


def test_execution_device() -> None:
    pipe = tiny.sd1()
    assert compat.execution_device(pipe) == torch.device("cpu")


def test_the_private_parts_of_guiders() -> None:
    guider: Any = ClassifierFreeGuidance(guidance_scale=3.0)
    assert compat.guider_is_on(guider)
    guider.disable()
    assert not compat.guider_is_on(guider)
    guider.enable()
    assert compat.predictions_of(ClassifierFreeGuidance) == ["pred_cond", "pred_uncond"]
    compat.name_predictions(guider, ["pred_cond", "pred_uncond", "pred_extra"])
    assert compat.predictions_of(guider)[-1] == "pred_extra"
    assert compat.predictions_of(ClassifierFreeGuidance) == ["pred_cond", "pred_uncond"]
    guider.set_state(step=2, num_inference_steps=7, timestep=torch.tensor(500))
    assert compat.step_of(guider) == (2, 7)
    guider.prepare_models(nn.Linear(1, 1))
    assert compat.calls_prepared(guider) == 1
    data = {"text": (torch.ones(1), torch.zeros(1))}
    made = compat.inputs_for(guider, data, "pred_extra")
    assert torch.equal(made.text, torch.ones(1))
    state = BlockState(text=torch.ones(1))
    again = compat.inputs_from_state(guider, {"text": ("text", "text")}, state, "pred_extra")
    assert torch.equal(again.text, torch.ones(1))


def test_every_private_name_has_its_canary() -> None:
    text = Path(__file__).read_text("utf-8")
    home = compat.__name__
    kept = {
        name
        for name, one in vars(compat).items()
        if getattr(one, "__module__", "") == home and not name.startswith("_")  # what these need
    }
    assert len(kept) > 10
    assert {name for name in kept if f"compat.{name}" not in text} == set()


@pytest.mark.parametrize(
    ("installed", "told"),
    [
        ("0.43.0", True),
        ("0.43.0.dev0", True),
        ("1.0.0", True),
        ("0.42.9", False),
        ("0.40.0", False),
    ],
)
def test_a_newer_diffusers_is_guided_with_a_warning(
    installed: str, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diffusers, "__version__", installed)
    versions.warn_of_newer.cache_clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        family_of(tiny.sd1())
        family_of(tiny.sd1())
    versions.warn_of_newer.cache_clear()
    said = [str(one.message) for one in caught if one.category is GuidanceWarning]
    assert len(said) == told
    assert all(f"diffusers {installed} is newer than 0.42" in text for text in said)


@pytest.mark.parametrize("folder", ["adhere", "plugins", "pipelines", "eval"])
def test_no_other_file_touches_private_names(folder: str) -> None:
    """`x._name` of anything but oneself, one's class and one's own modules is for `compat` only."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        if path.name == "compat.py" or path.is_symlink():
            continue
        tree = ast.parse(path.read_text("utf-8"))
        mine = set(_own_names(tree))
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
                private = not node.attr.startswith("__") and node.attr not in mine
                assert not private, f"{path.relative_to(ROOT)}:{node.lineno}: .{node.attr}"


def _own_names(tree: ast.AST) -> Iterator[str]:
    """What a file defines, or has as attributes of its own instances and classes."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("self", "cls"):
            yield node.attr

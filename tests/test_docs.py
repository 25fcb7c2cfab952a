"""The pages name what there is: public names, parameters, diffusers' arguments; notebooks run."""

from __future__ import annotations

import inspect
import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from diffusers import (
    SemanticStableDiffusionPipeline,
    StableDiffusionAttendAndExcitePipeline,
    StableDiffusionPipeline,
)
from diffusers.pipelines.deprecated.stable_diffusion_safe import StableDiffusionPipelineSafe

import adhere
from adhere.guides.parameters import parameters
from adhere.plugins import PLUGINS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MODULES = {"app", "assets", "cli", "errors", "eval", "evaluators", "guides", "layout", "pipelines"}
MODULES |= {"plugins", "prompt", "verifiers"}
"""What follows `adhere.` in the name of a module or of an entry point group."""


def code_of(notebook: Path) -> list[str]:
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def said(page: Path) -> str:
    return "\n".join(code_of(page)) if page.suffix == ".ipynb" else page.read_text("utf-8")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS], ids=name_of)
def test_what_a_page_names_is_public(page: Path) -> None:
    text = said(page)
    named = set(re.findall(r"\badhere\.([A-Za-z]\w*)", text))
    for group in re.findall(r"from adhere import (?:\(([^)]*)\)|([^(\n]+))", text):
        named |= {name.strip() for name in "".join(group).split(",") if name.strip()}
    assert named - MODULES <= set(adhere.__all__)


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS], ids=name_of)
def test_examples_import_from_the_package_itself(page: Path) -> None:
    if page.parent.name == "design":
        return
    blocks = re.findall(r"```python\n(.*?)```", said(page), re.DOTALL)
    text = said(page) if page.suffix == ".ipynb" else "\n".join(blocks)
    assert re.findall(r"^\s*(?:from|import) adhere\.\S+", text, re.M) == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_parameters_on_a_command_line_are_there(page: Path) -> None:
    for name, rest in re.findall(r"\b([a-z]+(?:-[a-z]+)*):(?=([a-z_]+=[^\s\"'`\]]+))", said(page)):
        values = re.split(r"\+[a-z-]+:", rest)[0]  # what follows is the next plugin of the stack
        if name in PLUGINS:
            known = {one.name for one in parameters(PLUGINS[name])}
            assert set(re.findall(r"([a-z_]+)=", values)) <= known, f"{name}:{values}"


def test_the_page_on_words_is_true() -> None:
    page = (ROOT / "docs" / "words.md").read_text("utf-8")
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert code is not None
    found: dict[str, Any] = {}
    exec(compile(code[1], "words.md", "exec"), found)
    parsed = found["parsed"]
    for names in re.findall(r"^\| (`parsed\..*?) \|", page, re.M):
        for name in re.findall(r"parsed\.(\w+)", names):
            assert hasattr(parsed, name), name
    for name in re.findall(r"^\| `(\w+)\(", page, re.M):
        assert name in adhere.__all__
    assert all(hasattr(parsed, name) for name in re.findall(r"`parsed\.(\w+)", page))


# ---- The migration page ------------------------------------------------------

MIGRATION = (ROOT / "docs" / "migration.md").read_text("utf-8")
TWINS = {
    "Attend-and-Excite": (StableDiffusionAttendAndExcitePipeline, "attend-and-excite"),
    "Safe Latent Diffusion": (StableDiffusionPipelineSafe, "safe-latent-diffusion"),
    "SEGA": (SemanticStableDiffusionPipeline, "sega"),
}


def section(title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", MIGRATION, re.M | re.DOTALL)
    assert found
    return found[1]


@pytest.mark.parametrize("title", TWINS)
def test_every_argument_of_the_old_pipeline_is_on_the_page(title: str) -> None:
    kind: Any = TWINS[title][0]
    ordinary = set(inspect.signature(StableDiffusionPipeline.__call__).parameters)
    own = set(inspect.signature(kind.__call__).parameters) - ordinary
    assert own - {"callback", "callback_steps"}
    for argument in own:
        where = MIGRATION if argument.startswith("callback") else section(title)
        assert re.search(rf"`(?:[^`\n]*\W)?{argument}\b", where), argument


@pytest.mark.parametrize("title", TWINS)
def test_every_parameter_that_the_page_offers_is_there(title: str) -> None:
    known = {one.name for one in parameters(PLUGINS[TWINS[title][1]])}
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (.*?) ?\|$", section(title), re.M)[2:]
    assert rows
    for _, ours, note in rows:
        for name in re.findall(r"`(\w+)=", ours):
            assert name in known, name
        for name in re.findall(r"`(scale)=", note):
            assert name in known, name


def test_the_presets_are_those_that_the_page_says() -> None:
    from adhere.plugins.safe.safe_latent_diffusion import PRESETS

    assert set(re.findall(r'"(weak|medium|strong|max)"', section("Safe Latent Diffusion"))) == set(
        PRESETS
    )
    assert PRESETS["weak"][1] == 200


# ---- Notebooks ---------------------------------------------------------------


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=name_of)
def test_a_notebook_is_kept_without_outputs(notebook: Path) -> None:
    for cell in json.loads(notebook.read_text("utf-8"))["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=name_of)
def test_a_notebook_runs(notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = pytest.importorskip("nbclient", reason="notebooks need the docs extra")
    import nbformat

    # The kernel is this environment's Python, whatever is registered under its name elsewhere.
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    book = nbformat.read(notebook, as_version=4)
    run = client.NotebookClient(book, timeout=1500, resources={"metadata": {"path": tmp_path}})
    handling = signal.getsignal(signal.SIGINT)
    try:
        run.execute()
    finally:
        signal.signal(signal.SIGINT, handling)  # it leaves Python's own, whatever was there

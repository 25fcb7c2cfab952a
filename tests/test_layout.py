"""The house: where things lie, what may import what, and that its texts are true."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import adhere
from adhere.guides.tasks import task_of
from adhere.plugins import PLUGINS
from docs.stub import stub
from tests.imports import circles, graph, modules, packages

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("adhere", "plugins", "pipelines", "app", "eval", "assets")


def sources(*folders: str) -> Iterator[Path]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            inside = path.relative_to(ROOT).parts
            # adhere/ holds links to the other folders, for editors and type checkers.
            if not (inside[0] == "adhere" and inside[1] in PACKAGES):
                yield path


def tracked() -> list[Path]:
    """The files of the repository; all files, where there is no git."""
    run = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:  # the source archive: all of it, but for what using it has made
        made = {"build", "dist", "__pycache__"}
        return [
            path
            for path in sorted(ROOT.rglob("*"))
            if path.is_file()
            and not made & set(path.relative_to(ROOT).parts)
            and not any(part.startswith(".") for part in path.relative_to(ROOT).parts[:-1])
        ]
    return [ROOT / line for line in run.stdout.splitlines() if (ROOT / line).is_file()]


def imported(path: Path) -> set[str]:
    """Every module that a file imports anywhere, by full name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def imports_of(path: Path, *packages: str) -> set[str]:
    return {
        name
        for name in imported(path)
        if any(name == package or name.startswith(f"{package}.") for package in packages)
    }


# ---- Folders, packages, links ------------------------------------------------


def test_every_package_is_a_folder_with_a_link() -> None:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    folders = tool["package-dir"]
    assert sorted(folders) == sorted(tool["packages"])
    for package, folder in folders.items():
        assert (ROOT / folder / "__init__.py").is_file(), package
        inside = package.split(".")
        if len(inside) == 2 and not folder.startswith("adhere/"):
            link = ROOT / "adhere" / inside[1]
            assert link.is_symlink(), link
            assert link.resolve() == (ROOT / folder).resolve()
    links = {path.name for path in (ROOT / "adhere").iterdir() if path.is_symlink()}
    outside = {folder.split("/")[0] for folder in folders.values()} - {"adhere"}
    assert links == outside


def test_every_folder_of_python_files_is_a_package() -> None:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    known = set(tool["package-dir"].values())
    for path in sources(*PACKAGES):
        assert str(path.parent.relative_to(ROOT)) in known, path


# ---- Who imports whom --------------------------------------------------------


@pytest.mark.parametrize("path", list(sources("adhere")), ids=lambda path: path.stem)
def test_the_core_imports_no_layer_above_it(path: Path) -> None:
    above = {f"adhere.{name}" for name in PACKAGES[1:]}
    # The command line is the top of the house and lies beside the core only for its name.
    if path.parent.name != "cli":
        assert not imports_of(path, *above, *PACKAGES[1:])
        assert not imports_of(path, "diffusers", "transformers", "gradio", "ray", "app")


@pytest.mark.parametrize("path", list(sources("plugins")), ids=lambda path: path.stem)
def test_a_plugin_imports_torch_and_the_core_only(path: Path) -> None:
    allowed = {"torch", "jaxtyping", "adhere", *sys.stdlib_module_names}
    assert {name.split(".")[0] for name in imported(path)} <= allowed
    assert not imports_of(path, *(f"adhere.{name}" for name in PACKAGES[2:]))
    text = path.read_text("utf-8")
    assert text.count("\n") <= 200
    assert ".backward(" not in text
    assert "register_" not in text


@pytest.mark.parametrize(
    ("folder", "above"),
    [("pipelines", ("app", "eval")), ("app", ()), ("eval", ("app",))],
)
def test_layers_import_downwards(folder: str, above: tuple[str, ...]) -> None:
    for path in sources(folder):
        assert not imports_of(path, *(f"adhere.{name}" for name in above)), path
        # Always by the package's name, never by the folder's.
        assert not imports_of(path, *PACKAGES[1:]), path
        if folder == "pipelines":
            assert not imports_of(path, "gradio", "ray", "spacy"), path


def test_a_folder_is_one_room() -> None:
    """At most 14 files of code side by side."""
    counted: dict[Path, int] = {}
    for path in sources(*PACKAGES):
        if path.name != "__init__.py":
            counted[path.parent] = counted.get(path.parent, 0) + 1
    assert {room: n for room, n in counted.items() if n > 14} == {}


def test_a_file_among_the_methods_is_a_method() -> None:
    """... and lies in the room of its task, under its name."""
    files = {
        f"adhere.{'.'.join(path.relative_to(ROOT).with_suffix('').parts)}"
        for path in (ROOT / "plugins").glob("*/*.py")
        if path.stem != "__init__" and path.parent.name != "mathematics"
    }
    assert files == {
        f"adhere.plugins.{task_of(kind)}.{name.replace('-', '_')}" for name, kind in PLUGINS.items()
    }
    assert files == {kind.__module__ for kind in PLUGINS.values()}


def test_nothing_imports_in_a_circle() -> None:
    """Imports that only type checkers see count too; those that wait for a call do not."""
    assert circles(graph(lazy=False)) == []


# From low to high: a room imports what stands before it in its line and nothing behind it. Imports
# that wait for a call, and those that only type checkers see, count too.
LINES = (
    "prompt layout guides verifiers plugins",
    "prompt layout guides plugins.mathematics",
    "prompt layout guides plugins",
    "pipelines.hooks pipelines.families pipelines.engine pipelines.modular",
    "pipelines.folders pipelines.toybox.model pipelines.studio",
    "pipelines.engine pipelines.search pipelines.studio pipelines.explaining",
    "pipelines.engine pipelines.studio pipelines.tools",
    "pipelines.toybox.judge pipelines.tools",
    "pipelines.toybox.world pipelines.toybox.model pipelines.toybox.judge pipelines.toybox.card",
    "pipelines.toybox.judge pipelines.toybox.training pipelines.toybox.card",
    "eval.suites eval.run eval.scores eval.report eval.commands",
    "eval.evaluators eval.report",
    "app.jobs app.parts app.outcome app.tabs app.serving",
    "pipelines eval cli",
    "pipelines app cli",
)


def within(module: str, room: str) -> bool:
    return f"{module}.".startswith(f"adhere.{room}.")


@pytest.mark.parametrize("line", LINES)
def test_rooms_import_in_one_direction(line: str) -> None:
    rooms = line.split()
    upwards = {
        (module, other)
        for module, others in graph(lazy=True).items()
        for other in others
        for place, room in enumerate(rooms)
        for above in rooms[place + 1 :]
        if within(module, room) and within(other, above)
    }
    assert upwards == set()


def test_only_the_command_line_and_the_table_import_plugins_by_name() -> None:
    modules = {kind.__module__ for kind in PLUGINS.values()}
    for path in sources("pipelines", "app", "eval", "adhere"):
        assert not imports_of(path, *modules), path


def test_importing_the_package_is_light() -> None:
    code = (
        "import sys, adhere; "
        "heavy = {'diffusers', 'transformers', 'gradio', 'spacy', 'ray', 'peft', 'accelerate'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"


def test_the_public_names_are_sorted_and_there() -> None:
    assert adhere.__all__ == sorted(set(adhere.__all__))
    assert list(adhere.HOMES) == sorted(adhere.HOMES)
    for name in adhere.__all__:
        assert getattr(adhere, name) is not None
    for kind in PLUGINS.values():
        assert getattr(adhere, kind.__name__) is kind
        assert kind.__name__ in dir(adhere)
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        getattr(adhere, "Nonsense")  # noqa: B009  a plain attribute is an error for mypy


def test_type_checkers_know_the_public_names() -> None:
    written = (ROOT / "adhere" / "__init__.pyi").read_text("utf-8")
    assert written == stub(), "run `make tables`"


# ---- Size and text -----------------------------------------------------------


def test_files_stay_small() -> None:
    for path in sources(*PACKAGES):
        assert path.read_text("utf-8").count("\n") <= 500, path


def test_functions_stay_small() -> None:
    lengths = sorted(
        (node.end_lineno - node.lineno + 1, f"{name}.{node.name}")
        for name, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno
    )
    assert lengths[-1][0] <= 60, lengths[-1]
    assert lengths[len(lengths) * 9 // 10][0] <= 20


@pytest.mark.parametrize("name", packages())
def test_one_sentence_says_what_lives_in_a_room(name: str) -> None:
    module = packages()[name] / "__init__.py"
    about = ast.get_docstring(ast.parse(module.read_text("utf-8"))) or ""
    first = about.split("\n\n")[0].replace("\n", " ")
    assert first.endswith("."), f"{name} does not say what lives there"
    assert len(first) <= 120, f"{name}: {first}"


def test_no_file_tells_of_the_machine_it_was_written_on() -> None:
    home = re.compile(r"(?<![\w.:/])/(?:work|home|root|Users|mnt|srv)/[\w.]+")
    for path in tracked():
        if path.suffix in {".py", ".md", ".toml", ".json", ".yaml", ".yml", ".txt", ".cff", ""}:
            text = path.read_text("utf-8", errors="ignore")
            found = home.search(text)
            assert not found, f"{path.relative_to(ROOT)}: {found and found[0]}"


LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)|!\[[^\]\n]*\]\(([^)\s]+)\)")


@pytest.mark.parametrize(
    "path", [p for p in tracked() if p.suffix == ".md"], ids=lambda p: str(p.relative_to(ROOT))
)
def test_links_between_pages_resolve(path: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", path.read_text("utf-8"), flags=re.DOTALL)
    for pair in LINK.findall(text):
        target = pair[0] or pair[1]
        if re.match(r"[a-z]+:", target):
            continue
        place, _, anchor = target.partition("#")
        page = (path.parent / place).resolve() if place else path
        assert page.exists(), f"{target} leads nowhere"
        if anchor and page.suffix == ".md":
            assert anchor in anchors(page), f"{target}: no such heading"


def anchors(page: Path) -> set[str]:
    """Headings as GitHub names them."""
    found: set[str] = set()
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for heading in re.findall(r"^#+\s+(.+)$", text, flags=re.MULTILINE):
        plain = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).replace(" ", "-"))
    return found


def test_every_skip_has_its_reason_on_the_list() -> None:
    told = (ROOT / "tests" / "SKIPS.md").read_text("utf-8")
    for path in sources("tests"):
        text = path.read_text("utf-8")
        if path != Path(__file__).resolve() and re.search(r"\bskip(if)?\(|importorskip\(", text):
            name = str(path.relative_to(ROOT))
            assert name in told, f"{name} skips something; tests/SKIPS.md says why"

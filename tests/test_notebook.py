"""The notebook: it runs, with the scripts' functions alone, and what git holds of it is clean."""

import ast
import json
import os
import re

import nbformat
import pytest
from conftest import ROOT
from nbclient import NotebookClient
from test_house import ORDER

NOTEBOOK = ROOT / "Image-Classifier-Project.ipynb"


@pytest.fixture
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def code_cells(notebook) -> dict:
    return {cell.id: cell for cell in notebook.cells if cell.cell_type == "code"}


def shown(cell) -> str:
    """What a cell shows, without pictures."""
    texts = []
    for output in cell.outputs:
        data = output.get("data", {}).items()
        texts.append(output.get("text", ""))
        texts += [str(each) for kind, each in data if not kind.startswith("image/")]
    return "\n".join(texts)


@pytest.mark.slow
def test_a_beginner_can_run_it_from_top_to_bottom(notebook, drawn, tmp_path, monkeypatch):
    (tmp_path / "flowers").symlink_to(drawn)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for variable in ("IPYTHONDIR", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / "jupyter"))  # nothing of the user's own
    place = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=300, resources=place).execute()  # raises on errors

    cells = code_cells(notebook)
    top1 = json.loads((tmp_path / "notebook_run" / "report.json").read_text())["top1"]
    accuracy = f"test accuracy: {top1['share']:.2%} ({top1['right']} of 16)"
    assert accuracy in shown(cells["training"])
    assert accuracy in shown(cells["test"])
    assert re.search(r"^flowers/test/\d/.*\n +\d+\.\d\d%  drawn ", shown(cells["one"]), re.M)
    for name in ("grid", "loss", "curves", "confusion", "one"):
        assert "image/jpeg" in cells[name].outputs[-1].data
    assert {*os.listdir(tmp_path)} == {"flowers", "jupyter", "notebook_run"}


def test_git_holds_a_whole_run_and_nothing_of_the_machine(notebook):
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells.values()] == [*range(1, len(cells) + 1)]
    for cell in cells.values():
        assert cell.outputs
        assert not cell.metadata
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr"
    assert notebook.metadata.keys() == {"kernelspec", "language_info"}
    assert notebook.metadata.kernelspec.name == "python3"
    texts = [*map(shown, cells.values()), *(cell.source for cell in notebook.cells)]
    assert not re.search(r"(?<![\w.<*])(/|[A-Z]:\\)\w+", "\n".join(texts)), "an absolute path"
    assert NOTEBOOK.stat().st_size < 1_000_000


def test_it_calls_the_scripts_functions_and_has_none_of_its_own(notebook):
    sources = (
        re.sub("^%.*", "", cell.source, flags=re.M) for cell in code_cells(notebook).values()
    )
    nodes = [*ast.walk(ast.parse("\n".join(sources)))]
    imports = [node for node in nodes if isinstance(node, ast.Import)]
    modules = {alias.name.split(".")[0] for node in imports for alias in node.names}
    assert modules - {*ORDER} == {"contextlib", "os", "sys", "matplotlib", "numpy", "pandas"}
    own = ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Lambda, ast.While
    assert not [node for node in nodes if isinstance(node, own)]

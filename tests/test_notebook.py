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
    return "\n".join(
        output.get("text")
        or "\n".join(
            str(data)
            for kind, data in output.get("data", {}).items()
            if not kind.startswith("image/")
        )
        for output in cell.outputs
    )


def accuracy_line(cell) -> str:
    return re.search(r"^test accuracy: .*$", shown(cell), re.M)[0]


@pytest.mark.slow
def test_it_learns_from_flowers_where_that_folder_is(notebook, drawn, tmp_path, monkeypatch):
    (tmp_path / "flowers").symlink_to(drawn)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for variable in ("IPYTHONDIR", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / "jupyter"))  # nothing of the user's own
    NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()  # raises on errors

    cells = code_cells(notebook)
    assert "flowers: 48 train, 16 valid, 16 test photographs; 4 categories" in shown(cells["data"])
    assert sorted(os.listdir(tmp_path)) == ["flowers", "jupyter", "notebook_run"]
    assert sorted(os.listdir(tmp_path / "notebook_run")) == [
        "checkpoint.pth",
        "history.csv",
        "last.pth",
        "report.html",
        "report.json",
    ]  # and no drawn flowers
    top1 = json.loads((tmp_path / "notebook_run" / "report.json").read_text())["top1"]
    assert accuracy_line(cells["test"]) == (
        f"test accuracy: {top1['share']:.2%} ({top1['right']} of 16)"
    )
    assert re.search(r"^flowers/test/\d/.*\n +\d+\.\d\d%  drawn ", shown(cells["one"]), re.M)
    for name in ("grid", "loss", "curves", "confusion", "one"):
        assert "image/jpeg" in cells[name].outputs[-1].data


def test_git_holds_a_whole_run_and_nothing_of_the_machine(notebook):
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells.values()] == [*range(1, len(cells) + 1)]
    for cell in cells.values():
        assert cell.outputs
        assert not cell.metadata
        assert not [
            output
            for output in cell.outputs
            if output.output_type == "error" or output.get("name") == "stderr"
        ]
    assert accuracy_line(cells["test"]) == accuracy_line(cells["training"])

    assert notebook.metadata.keys() == {"kernelspec", "language_info"}
    assert notebook.metadata.kernelspec.name == "python3"
    texts = [*map(shown, cells.values()), *(cell.source for cell in notebook.cells)]
    assert not re.search(r"(?<![\w.<*])(/|[A-Z]:\\)\w+", "\n".join(texts)), "an absolute path"
    assert NOTEBOOK.stat().st_size < 1_000_000


def test_it_has_no_code_that_the_scripts_have(notebook):
    tree = ast.parse(
        "\n".join(
            re.sub("^%.*", "", cell.source, flags=re.M) for cell in code_cells(notebook).values()
        )
    )
    modules = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    others = {module for module in modules if module.split(".")[0] not in ORDER}
    assert others == {"contextlib", "os", "sys", "numpy", "pandas"}
    assert not [
        node
        for node in ast.walk(tree)
        if isinstance(
            node, (ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Lambda, ast.For, ast.While)
        )
    ]

"""The pages: links that lead somewhere, tables that are up to date, commands and code that work."""

import importlib.util
import re
import shlex
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest
from conftest import CNN, ROOT, save_small
from PIL import Image

import running.command_line
import train
from images.drawn import draw_data
from prediction import command_line
from running.console import Console

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
README = (ROOT / "README.md").read_text(encoding="utf-8")

pages = pytest.mark.parametrize(
    "page", [pytest.param(page, id=page.relative_to(ROOT).as_posix()) for page in PAGES]
)


def blocks(text: str, kind: str) -> list[str]:
    """The content of the code blocks of a kind."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.M | re.S)


def without_code(text: str) -> str:
    """A page without its code blocks, and without what is between backticks."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    return re.sub(r"`[^`\n]+`", "", text)


# --- Links ----------------------------------------------------------------------------


def slugs(text: str) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    found: dict[str, int] = {}
    text = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", text, re.M):
        heading = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found[slug] = found.get(slug, -1) + 1
        if found[slug]:
            found[f"{slug}-{found[slug]}"] = 0
    return set(found)


def broken_links(page: Path, text: str) -> list[str]:
    """The links within the project that lead nowhere."""
    broken = []
    targets = re.findall(r"\]\(\s*<?([^)\s>]+)>?[^)]*\)", without_code(text))
    targets += re.findall(r"^\[[^]]+\]: *(\S+)", text, re.M)
    for target in targets:
        if re.match(r"[a-z]+:", target):
            continue  # elsewhere
        path, _, anchor = unquote(target).partition("#")
        file = (page.parent / path).resolve() if path else page
        found = file.is_relative_to(ROOT) and file.exists()
        if found and anchor:
            found = file.suffix == ".md" and anchor in slugs(file.read_text("utf-8"))
        if not found:
            broken.append(target)
    return broken


@pages
def test_links_lead_somewhere(page):
    assert broken_links(page, page.read_text(encoding="utf-8")) == []


def test_links_that_lead_nowhere_would_be_noticed():
    text = """
[a](docs/reference.md#exit-codes) [b](docs/nowhere.md) [c](docs/reference.md#nothing) [d](#tests)
[e](#nothing) ![f](docs/nothing.png) [g](https://example.org/x) [h](../elsewhere) `[i](no.md)`

```sh
[j](nowhere.md)
```
"""
    assert broken_links(ROOT / "README.md", text) == [
        "docs/nowhere.md",
        "docs/reference.md#nothing",
        "#nothing",
        "docs/nothing.png",
        "../elsewhere",
    ]


def test_anchors_are_those_of_github():
    text = (
        "# One `two_three`, four-five!\n## Same\n```sh\n# no heading\n```\n## Same\n## [L](x.md) 2"
    )
    assert slugs(text) == {"one-two_three-four-five", "same", "same-1", "l-2"}


def test_every_page_is_linked_from_the_readme():
    linked = set(re.findall(r"\]\((docs/[\w-]+\.md)", README))
    assert linked == {f"docs/{page.name}" for page in PAGES if page.parent.name == "docs"}


# --- Form -----------------------------------------------------------------------------


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 150


@pages
def test_no_page_tells_of_a_machine_or_is_unfinished(page):
    text = page.read_text(encoding="utf-8")
    assert str(ROOT) not in text
    assert not re.findall(r"(?<![\w.)/])/(?:home|root|work|tmp|Users|opt|mnt|data)/", text)
    assert not re.findall(r"[A-Z]:\\\w", text)
    assert not re.findall(r"OUTPUT-[A-Z]|TODO|FIXME|XXX", text)


# --- Flags ----------------------------------------------------------------------------


@pytest.fixture
def write_flags(monkeypatch):
    """docs/write_flags.py as a module."""
    monkeypatch.setattr(sys, "path", [*sys.path])  # it adds to that
    spec = importlib.util.spec_from_file_location("write_flags", ROOT / "docs" / "write_flags.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_of_flags_are_up_to_date(write_flags):
    """Else: python docs/write_flags.py"""
    text = write_flags.REFERENCE.read_text(encoding="utf-8")
    assert write_flags.with_tables(text) == text


@pytest.mark.parametrize("script", [train, command_line], ids=["train", "predict"])
def test_the_tables_are_the_same_on_every_machine(write_flags, monkeypatch, script):
    tables = []
    for processors in (2, 64):
        for module in (command_line, running.command_line):
            monkeypatch.setattr(module, "default_workers", lambda *_, count=processors: count)
        tables.append(write_flags.flag_table(script.build_parser(Console("a.py"))))
    assert tables[0] == tables[1]


@pytest.mark.parametrize("script", [train, command_line], ids=["train", "predict"])
def test_every_flag_is_in_a_table_with_its_help(write_flags, script):
    table = write_flags.flag_table(script.build_parser(Console("a.py")))
    rows = re.findall(r"^\| `(--\w+).*?` \| (.+) \|$", table, re.M)
    assert len(rows) == table.count("\n") - 2 >= 10
    parser = script.build_parser(Console("a.py"))
    flags = {
        flag
        for action in parser._actions
        for flag in action.option_strings
        if flag.startswith("--") and "-" not in flag[2:]
    }
    named = {
        flag
        for row in re.findall(r"^\| (.+?) \|", table, re.M)
        for flag in re.findall(r"--\w+", row)
    }
    assert named == flags - {"--help"}


def commands_of(text: str) -> list[list[str]]:
    """The calls of the scripts in a page's blocks for the shell: script, then arguments."""
    found = []
    for block in blocks(text, "(?:sh|bash|yaml|text)?"):
        for line in block.replace("\\\n", " ").splitlines():
            for name, rest in re.findall(r"\b(train|predict)\.py((?: [^|>&;#)]*)?)", line):
                words = re.sub(r"\$\(\(.*?\)\)|\$\{?\w+\}?|\{\}", "1", rest)
                found.append([name, *shlex.split(words.split(" $(")[0].split(" :::")[0])])
    return found


@pages
def test_the_scripts_know_the_flags_of_every_command(page):
    for name, *words in commands_of(page.read_text(encoding="utf-8")):
        parser = {"train": train, "predict": command_line}[name].build_parser(Console(name))
        known = set(parser._option_string_actions)
        flags = {word.split("=")[0] for word in words if word.startswith("--")}
        assert flags <= known, f"{name}.py {' '.join(words)}"


# --- The README's commands --------------------------------------------------------------

INSTALL = "python3 -m venv .venv && . .venv/bin/activate && pip install -r requirements.txt"
TESTS = INSTALL.replace("-r ", "-r tests/") + " && python -m pytest tests"

NOT_RUN = {
    INSTALL.replace("requirements", "requirements-predict"): "it installs packages from PyPI; "
    ".ci/run does so",
    TESTS: "it would run this test; .ci/run does it",
}

# In their order, in one folder, and what each prints; the flags that make training short.
PERCENT = r" *\d+\.\d\d%  "
RUN = {
    "python predict.py image.jpg assets/flowers102.onnx --top_k 3": (
        [],
        rf"({PERCENT}\S.*  \d+ *\n){{3}}$",
    ),
    "python train.py flowers --check_data": ([], r"split  photographs  categories  in each\n"),
    "python train.py flowers": ([*CNN, "--epochs", "1"], r"flowers: 48 train, "),
    "python predict.py image.jpg checkpoint.pth": ([], rf"({PERCENT}drawn \w+ +\d\n){{4}}$"),
}
RUN_SLOWLY = "python train.py --demo"


def readme_commands() -> list[str]:
    """The lines of the README's blocks for the shell, without comments."""
    lines = [line for block in blocks(README, "sh") for line in block.splitlines()]
    return [re.sub(r" +#.*", "", line) for line in lines if line.strip()]


def test_every_command_of_the_readme_is_run_or_has_a_reason():
    commands = readme_commands()
    assert commands == [command.strip() for command in commands]
    known = {*RUN, *NOT_RUN, f"{INSTALL} && {RUN_SLOWLY}"}
    assert set(commands) == known


def run_command(run_script, command: str, more: list[str]):
    python, script, *words = shlex.split(command)
    assert python == "python"
    return run_script(script.removesuffix(".py"), *words, *more)


@pytest.fixture
def as_a_user(drawn, photo, tmp_path, monkeypatch):
    """A folder with all that the README's commands name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    (tmp_path / "flowers").symlink_to(drawn)
    (tmp_path / "image.jpg").symlink_to(photo)
    return tmp_path


def test_the_commands_of_the_readme_work(run_script, as_a_user):
    for command, (more, output) in RUN.items():
        run = run_command(run_script, command, more)
        assert run.code == 0, run.err
        assert re.match(output, run.out), run.out


@pytest.mark.slow
def test_the_demo_of_the_readme_works(run_script, as_a_user, monkeypatch):
    monkeypatch.setattr(train, "draw_data", lambda folder, progress: draw_data(folder, 6, 2, 2, 3))
    run = run_command(run_script, RUN_SLOWLY, ["--epochs", "1"])
    assert run.code == 0, run.err
    following = run.out.splitlines()[-1].removeprefix("next: ")
    # From this folder the scripts lie elsewhere.
    _, script, *words = shlex.split(following)
    assert Path(script).resolve() == ROOT / "predict.py"
    answer = run_script("predict", *words)
    assert answer.code == 0
    assert re.match(rf"({PERCENT}drawn \w+ +\d\n){{3}}$", answer.out)


# --- Python -----------------------------------------------------------------------------

# docs/export.md's is run by tests/test_export.py, which has an exported network.
RUN_HERE = {"docs/python.md": 1, "docs/export.md": 1}


def test_every_block_of_python_is_known_here():
    found = {
        page.relative_to(ROOT).as_posix(): len(blocks(page.read_text(encoding="utf-8"), "python"))
        for page in PAGES
    }
    assert {name: count for name, count in found.items() if count} == RUN_HERE


def test_the_lines_for_python_work(photo, tmp_path, monkeypatch, capsys):
    (code,) = blocks((ROOT / "docs" / "python.md").read_text(encoding="utf-8"), "python")
    monkeypatch.chdir(tmp_path)
    save_small(tmp_path / "checkpoint.pth", ["1", "2", "3"], ["daisy", "poppy", "rose"])
    for name in ("a.jpg", "b.jpg"):
        Image.open(photo).save(name)
    exec(code, {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    for line in lines:
        name, probability = line.split()
        assert name in ("daisy", "poppy", "rose")
        assert 1 / 3 <= float(probability) <= 1

"""The pages: links that lead somewhere, tables that are up to date, commands and code that work.

python tests/test_docs.py    writes the tables of flags and the list of arrows
"""

import argparse
import contextlib
import io
import re
import shlex
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from conftest import CNN, ROOT, save_small
from PIL import Image
from test_house import HOUSE, ORDER, arrows

import running.command_line
import running.errors
import train
from images.drawn import draw_data
from prediction import command_line
from running.console import Console

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "benchmarks" / "results").glob("*.md")),
]
REFERENCE, ARCHITECTURE = ROOT / "docs" / "reference.md", ROOT / "docs" / "architecture.md"
PARSERS = {"train.py": train.build_parser, "predict.py": command_line.build_parser}


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


README = read(ROOT / "README.md")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(text: str, kind: str) -> list[str]:
    """The content of the code blocks of a kind."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.M | re.S)


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
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    targets = re.findall(r"\]\(\s*<?([^)\s>]+)>?[^)]*\)", re.sub(r"`[^`\n]+`", "", prose))
    targets += re.findall(r"^\[[^]]+\]: *(\S+)", text, re.M)
    for target in targets:
        if re.match(r"[a-z]+:", target):
            continue  # elsewhere
        path, _, anchor = unquote(target).partition("#")
        file = (page.parent / path).resolve() if path else page
        found = file.is_relative_to(ROOT) and file.exists()
        if found and anchor:
            found = file.suffix == ".md" and anchor in slugs(read(file))
        if not found:
            broken.append(target)
    return broken


def test_links_lead_somewhere():
    assert {name_of(page): broken_links(page, read(page)) for page in PAGES} == {
        name_of(page): [] for page in PAGES
    }


def test_every_page_is_linked_from_the_readme():
    linked = set(re.findall(r"\]\((docs/[\w-]+\.md)", README))
    assert linked == {f"docs/{page.name}" for page in PAGES if page.parent.name == "docs"}


# --- Flags, exit codes and the map ------------------------------------------------------


def flag_table(parser: argparse.ArgumentParser) -> str:
    """A Markdown table of a parser's flags, each with its help."""
    lines = ["| flag | what it does |", "|---|---|"]
    for action in parser._actions:
        flags = [flag for flag in action.option_strings if "-" not in flag.removeprefix("--")]
        if not flags or "--help" in flags:
            continue
        value = str(action.metavar or "|".join(action.choices or ()))
        value = f"[{value}]" if action.nargs == "?" else value
        value = value.replace("|", r"\|")  # which would end the table's cell
        spelled = ", ".join(f"`{flag} {value}".rstrip() + "`" for flag in flags)
        lines.append(f"| {spelled} | {(action.help or '') % vars(action)} |")
    return "\n".join(lines) + "\n"


def arrow_list() -> str:
    """A line for each room that imports others, in the order of the ladder."""
    return "".join(
        f"{room} -> {', '.join(sorted(below, key=ORDER.index))}\n"
        for room, below in arrows().items()
        if below
    )


def with_tables(text: str) -> str:
    """The page with today's flags between its marks."""
    for name, build_parser in PARSERS.items():
        begin, end = (f"<!-- flags of {name}: {mark} -->\n" for mark in ("begin", "end"))
        before, rest = text.split(begin)
        text = before + begin + flag_table(build_parser(Console(name))) + end + rest.split(end)[1]
    return text


def with_arrows(text: str) -> str:
    """The page with today's arrows in the place of its list."""
    return re.sub(r"(?<=^```text\n)(\w+ -> .*\n)+(?=```$)", arrow_list(), text, flags=re.M)


def test_every_flag_is_in_the_reference():
    """Else: python tests/test_docs.py"""
    assert with_tables(read(REFERENCE)) == read(REFERENCE)


def test_the_map_shows_the_arrows_that_exist():
    """Else: python tests/test_docs.py"""
    assert arrow_list() in blocks(read(ARCHITECTURE), "text")


def test_the_map_knows_every_module():
    page = read(ARCHITECTURE)
    names = {path.name for path in HOUSE} - {"__init__.py"}
    assert [name for name in sorted(names) if not re.search(rf"(?<!\w){name}\b", page)] == []


def commands_of(text: str) -> list[list[str]]:
    """The calls of the scripts in a page's blocks for the shell: script, then arguments."""
    found = []
    for block in blocks(text, "(?:sh|bash|yaml|text)?"):
        for line in block.replace("\\\n", " ").splitlines():
            for name, rest in re.findall(r"\b(train|predict)\.py((?: [^|>&;#)]*)?)", line):
                words = re.sub(r"\$\(\(.*?\)\)|\$\{?\w+\}?|\{\}", "1", rest)
                found.append([name, *shlex.split(words.split(" $(")[0].split(" :::")[0])])
    return found


def test_the_scripts_know_the_flags_of_every_command():
    for page in PAGES:
        for name, *words in commands_of(read(page)):
            known = PARSERS[f"{name}.py"](Console(name))._option_string_actions.keys()
            flags = {word.split("=")[0] for word in words if word.startswith("--")}
            assert flags <= known, f"{name_of(page)}: {name}.py {' '.join(words)}"


@pytest.mark.parametrize(
    ("script", "own"), [("train", {0, 3, 130, 143}), ("predict", {0, 130, 143})]
)
def test_help_and_reference_know_every_exit_code(script, own):
    text = io.StringIO()
    with contextlib.redirect_stdout(text), pytest.raises(SystemExit):
        PARSERS[f"{script}.py"](Console(script)).parse_args(["--help"])
    epilog = text.getvalue().split("exit codes:\n")[1]
    codes = {int(code) for code in re.findall(r"^  (\d+)  +\S", epilog, re.M)}
    errors = vars(running.errors).values()
    assert codes == own | {each.exit_code for each in errors if hasattr(each, "exit_code")}
    table = read(REFERENCE).split("## Exit codes\n")[1].split("\n## ")[0]
    assert codes <= {int(code) for code in re.findall(r"^\| (\d+) \| \S", table, re.M)}


# --- The README's commands --------------------------------------------------------------

INSTALL = "python3 -m venv .venv && . .venv/bin/activate && pip install -r requirements.txt"
TESTS = INSTALL.replace("-r ", "-r tests/") + " && python -m pytest tests"
RUN_SLOWLY = "python train.py --demo"

NOT_RUN = [  # as they install packages; .ci/run does
    INSTALL.replace("requirements", "requirements-predict"),
    TESTS,
    f"{INSTALL} && {RUN_SLOWLY}",
]

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


def test_every_command_of_the_readme_is_run_or_has_a_reason():
    lines = [line for block in blocks(README, "sh") for line in block.splitlines()]
    commands = {re.sub(r" +#.*", "", line) for line in lines if line.strip()}
    uv = {command for command in commands if command.startswith("uv ")}  # as with pip
    assert commands - uv == {*RUN, *NOT_RUN}
    assert {command.replace("uv run", "python") for command in uv} <= RUN.keys()


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


@pytest.mark.slow
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
    # From this folder the scripts lie elsewhere.
    _, script, *words = shlex.split(run.out.splitlines()[-1].removeprefix("next: "))
    assert Path(script).resolve() == ROOT / "predict.py"
    answer = run_script("predict", *words)
    assert answer.code == 0
    assert re.match(rf"({PERCENT}drawn \w+ +\d\n){{3}}$", answer.out)


# --- Python -----------------------------------------------------------------------------


def test_every_block_of_python_is_run():
    found = {name_of(page): len(blocks(read(page), "python")) for page in PAGES}
    # The first of export.md is run by tests/test_export.py, which has an exported network.
    expected = {"docs/export.md": 2}
    assert {name: count for name, count in found.items() if count} == expected


def test_the_lines_for_python_work(photo, tmp_path, monkeypatch, capsys):
    _, code = blocks(read(ROOT / "docs" / "export.md"), "python")
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


if __name__ == "__main__":
    REFERENCE.write_text(with_tables(read(REFERENCE)), encoding="utf-8")
    ARCHITECTURE.write_text(with_arrows(read(ARCHITECTURE)), encoding="utf-8")

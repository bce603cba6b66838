"""The pages: links that lead somewhere, tables that are up to date, commands and code that work.

python tests/test_docs.py    writes the tables of flags and the list of arrows
"""

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

REFERENCE, ARCHITECTURE = ROOT / "docs" / "reference.md", ROOT / "docs" / "architecture.md"
PARSERS = {"train.py": train.build_parser, "predict.py": command_line.build_parser}
PAGES = {
    path: path.read_text(encoding="utf-8")
    for path in [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
        *sorted((ROOT / "docs").glob("*.md")),
        *sorted((ROOT / "benchmarks" / "results").glob("*.md")),
    ]
}
README = PAGES[ROOT / "README.md"]


def blocks(text: str, kind: str) -> list[str]:
    """The content of the code blocks of a kind."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.M | re.S)


# --- Links ----------------------------------------------------------------------------


def prose(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)


def slugs(text: str) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#{1,6} +(.+?) *#*$", prose(text), re.M)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


def broken_links(page: Path, text: str) -> list[str]:
    """The links within the project that lead nowhere."""
    broken = []
    words = re.sub(r"`[^`\n]+`", "", prose(text))
    for target in re.findall(r"\]\(([^)\s]+)\)", words):
        path, _, anchor = unquote(target).partition("#")
        if re.match(r"[a-z]+:", target):
            continue  # elsewhere
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in slugs(PAGES[file])):
            broken.append(target)
    return broken


def test_links_lead_somewhere():
    assert [link for page, text in PAGES.items() for link in broken_links(page, text)] == []
    wrong = "[a](docs/reference.md#exit-codes) [b](docs/no.md) [c](#no) ![d](docs/no.png)"
    assert broken_links(ROOT / "README.md", wrong) == ["docs/no.md", "#no", "docs/no.png"]


def test_every_page_is_linked_from_the_readme():
    linked = set(re.findall(r"\]\((docs/[\w-]+\.md)", README))
    assert linked == {f"docs/{page.name}" for page in PAGES if page.parent.name == "docs"}


# --- Flags, exit codes and the map ------------------------------------------------------


def flag_table(name: str) -> str:
    """A Markdown table of a script's flags, each with its help."""
    lines = ["| flag | what it does |", "|---|---|"]
    for action in PARSERS[name](Console(name))._actions:
        flags = [flag for flag in action.option_strings if "-" not in flag.removeprefix("--")]
        if not flags or "--help" in flags:
            continue
        value = str(action.metavar or "|".join(action.choices or ()))
        value = f"[{value}]" if action.nargs == "?" else value
        value = value.replace("|", r"\|")  # which would end the table's cell
        spelled = ", ".join(f"`{flag} {value}".rstrip() + "`" for flag in flags)
        lines.append(f"| {spelled} | {(action.help or '') % vars(action)} |")
    return "\n".join(lines) + "\n"


def with_tables(text: str) -> str:
    """The page with today's flags between its marks."""
    for name in PARSERS:
        begin, end = (f"<!-- flags of {name}: {mark} -->\n" for mark in ("begin", "end"))
        before, rest = text.split(begin)
        text = before + begin + flag_table(name) + end + rest.split(end)[1]
    return text


def with_arrows(text: str) -> str:
    """The page with today's arrows in the place of its list, in the order of the ladder."""
    lines = [
        f"{room} -> {', '.join(sorted(below, key=ORDER.index))}\n"
        for room, below in arrows().items()
        if below
    ]
    pattern = r"(?<=^```text\n)(\w+ -> .*\n)+(?=```$)"
    return re.sub(pattern, "".join(lines), text, flags=re.M)


def test_the_pages_show_the_flags_and_arrows_that_exist(monkeypatch):
    """Else: python tests/test_docs.py"""
    assert with_arrows(PAGES[ARCHITECTURE]) == PAGES[ARCHITECTURE]
    for processors in (2, 64):  # the table is the same on every machine
        for module in (command_line, running.command_line):
            monkeypatch.setattr(module, "default_workers", lambda *_, count=processors: count)
        assert with_tables(PAGES[REFERENCE]) == PAGES[REFERENCE]


def test_the_map_knows_every_module():
    names = {path.name for path in HOUSE} - {"__init__.py"}
    assert [name for name in sorted(names) if f"`{name}`" not in PAGES[ARCHITECTURE]] == []


def test_the_scripts_know_the_flags_of_every_command():
    for page, text in PAGES.items():
        for block in blocks(text, "(?:sh|bash|yaml|text)?"):
            lines = block.replace("\\\n", " ")
            for name, rest in re.findall(r"\b((?:train|predict)\.py)((?: [^|>&;#)\n]*)?)", lines):
                flags = set(re.findall(r" (--\w+)", rest))
                known = PARSERS[name](Console(name))._option_string_actions.keys()
                assert flags <= known, f"{page}: {name}{rest}"


@pytest.mark.parametrize(
    ("script", "own"), [("train.py", {0, 3, 130, 143}), ("predict.py", {0, 130, 143})]
)
def test_help_and_reference_know_every_exit_code(script, own, capsys):
    with pytest.raises(SystemExit):
        PARSERS[script](Console(script)).parse_args(["--help"])
    epilog = capsys.readouterr().out.split("exit codes:\n")[1]
    codes = {int(code) for code in re.findall(r"^  (\d+)  +\S", epilog, re.M)}
    errors = vars(running.errors).values()
    assert codes == own | {each.exit_code for each in errors if hasattr(each, "exit_code")}
    table = PAGES[REFERENCE].split("## Exit codes\n")[1].split("\n## ")[0]
    assert codes <= {int(code) for code in re.findall(r"^\| (\d+) \| \S", table, re.M)}


# --- The README's commands --------------------------------------------------------------

INSTALL = "python3 -m venv .venv && . .venv/bin/activate && pip install -r requirements.txt"
RUN_SLOWLY = "python train.py --demo"
NOT_RUN = [  # as they install packages; .ci/run does
    INSTALL.replace("requirements", "requirements-predict"),
    INSTALL.replace("-r ", "-r tests/") + " && python -m pytest tests",
    f"{INSTALL} && {RUN_SLOWLY}",
]

# In their order, in one folder, and what each prints; the flags that make training short.
PERCENT = r" *\d+\.\d\d%  "
ONE, OWN = "python predict.py image.jpg assets/flowers102.onnx --top_k 3", "python train.py flowers"
RUN = {
    ONE: ([], rf"({PERCENT}\S.*  \d+ *\n){{3}}$"),
    f"{OWN} --check_data": ([], r"split  photographs  categories  in each\n"),
    OWN: ([*CNN, "--epochs", "1"], r"flowers: 48 train, "),
    "python predict.py image.jpg checkpoint.pth": ([], rf"({PERCENT}drawn \w+ +\d\n){{4}}$"),
}


def test_every_command_of_the_readme_is_run_or_has_a_reason():
    lines = [line for block in blocks(README, "sh") for line in block.splitlines()]
    commands = {re.sub(r" +#.*", "", line) for line in lines if line.strip()}
    assert commands - {ONE.replace("python", "uv run")} == {*RUN, *NOT_RUN}


@pytest.mark.slow
def test_the_commands_of_the_readme_work(run_script, drawn, photo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "draw_data", lambda folder, progress: draw_data(folder, 6, 2, 2, 3))
    for name, target in (("assets", ROOT / "assets"), ("flowers", drawn), ("image.jpg", photo)):
        (tmp_path / name).symlink_to(target)

    def run(command: str, *more: str) -> str:
        _, script, *words = shlex.split(command)
        result = run_script(Path(script).stem, *words, *more)
        assert result.code == 0, result.err
        return result.out

    for command, (more, output) in RUN.items():
        assert re.match(output, run(command, *more))
    following = run(RUN_SLOWLY, "--epochs", "1").splitlines()[-1]
    assert re.match(rf"({PERCENT}drawn \w+ +\d\n){{3}}$", run(following.removeprefix("next: ")))
    assert "drawing flowers" not in run(RUN_SLOWLY, "--epochs", "0")  # they are there


def test_the_lines_for_python_work(photo, tmp_path, monkeypatch, capsys):
    """The first block is run by tests/test_export.py, which has an exported network."""
    python = [block for text in PAGES.values() for block in blocks(text, "python")]
    _, code = python
    monkeypatch.chdir(tmp_path)
    save_small(tmp_path / "checkpoint.pth", ["1", "2", "3"], ["daisy", "poppy", "rose"])
    for name in ("a.jpg", "b.jpg"):
        Image.open(photo).save(name)
    exec(code, {})
    assert re.fullmatch(r"((daisy|poppy|rose) +[01]\.\d+\n){2}", capsys.readouterr().out)


if __name__ == "__main__":
    REFERENCE.write_text(with_tables(PAGES[REFERENCE]), encoding="utf-8")
    ARCHITECTURE.write_text(with_arrows(PAGES[ARCHITECTURE]), encoding="utf-8")

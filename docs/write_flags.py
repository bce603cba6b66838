"""Write the tables of flags in docs/reference.md from the parsers.

python docs/write_flags.py
"""

import argparse
import sys
from pathlib import Path

REFERENCE = Path(__file__).with_name("reference.md")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import train  # noqa: E402
from prediction import command_line  # noqa: E402
from running.console import Console  # noqa: E402

PARSERS = {"train.py": train.build_parser, "predict.py": command_line.build_parser}


def flag_table(parser: argparse.ArgumentParser) -> str:
    """Make a Markdown table of a parser's flags, each with its help."""
    lines = ["| flag | what it does |", "|---|---|"]
    for action in parser._actions:
        flags = [flag for flag in action.option_strings if "-" not in flag.removeprefix("--")]
        if not flags or "--help" in flags:
            continue
        value = str(action.metavar or "|".join(action.choices or ()))
        value = f"[{value}]" if action.nargs == "?" else value
        value = value.replace("|", r"\|")  # which would end the table's cell
        spelled = ", ".join(f"`{flag} {value}".rstrip() + "`" for flag in flags)
        text = (action.help or "") % vars(action)
        lines.append(f"| {spelled} | {text} |")
    return "\n".join(lines) + "\n"


def with_tables(text: str) -> str:
    """Put the tables between their marks."""
    for name, build_parser in PARSERS.items():
        begin, end = (f"<!-- flags of {name}: {mark} -->\n" for mark in ("begin", "end"))
        before, rest = text.split(begin)
        after = rest.split(end)[1]
        text = before + begin + flag_table(build_parser(Console(name))) + end + after
    return text


if __name__ == "__main__":
    REFERENCE.write_text(with_tables(REFERENCE.read_text()))

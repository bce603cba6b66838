"""Tables in CSV that people edit: written for spreadsheets, and read as these may save them."""

import codecs
import csv
import io
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from running.errors import InputError
from running.files import require_small_file

FORMULA = tuple("=+-@\t\r")  # a spreadsheet computes what begins with one of these

# What counts as an answer, in small letters: also what spreadsheets make of TRUE and FALSE.
YES = (*("yes", "y", "x", "1", "1.0", "1,0", "true", "ok", "✓", "✔"), *"ja j wahr".split())
YES = (*YES, *"oui o vrai sí si s verdadero sì vero sim verdadeiro".split())
NO = ("no", "n", "0", "0.0", "0,0", "false", "-", *"nein falsch non faux falso não".split())


def format_table(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> bytes:
    """Format a table; what a spreadsheet would compute is spelled by `safe_path` or `safe_text`."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(rows)
    # Excel knows the encoding by the byte order mark.
    return text.getvalue().encode("utf-8-sig", "surrogateescape")


def safe_path(path: str) -> str:
    """Spell a path so that a spreadsheet does not compute it."""
    return f"./{path}" if path.startswith(FORMULA) else path


def safe_text(text: str) -> str:
    """Spell a word so that a spreadsheet does not compute it."""
    return f"'{text}" if text.startswith(FORMULA) else text


def read_table(path: str | Path, columns: Collection[str], what: str) -> Iterator[dict[str, str]]:
    """Read the rows of a table by the names of its columns, in small letters.

    `columns` have to be there; `what` the file should be is part of the messages. Raises InputError
    if it is missing or another one.
    """
    try:
        require_small_file(path, what)
        content = Path(path).read_bytes()
        is_wide = content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        text = content.decode("utf-16" if is_wide else "utf-8-sig", "surrogateescape")
        header, rest = text.partition("\n")[::2]
        if header.lower().startswith("sep="):
            header, rest = rest.partition("\n")[::2]
        # A spreadsheet of a country with decimal commas writes semicolons, "Unicode text" has tabs.
        delimiter = max(",;\t", key=header.count)
        names = [name.strip().lower() for name in next(csv.reader([header], delimiter=delimiter))]
        if lacking := {*columns} - {*names}:
            raise ValueError(f"it lacks the column {min(lacking)}")
        rows = csv.reader(io.StringIO(rest, newline=""), delimiter=delimiter)
        for fields in filter(None, rows):
            yield {**dict.fromkeys(names, ""), **dict(zip(names, fields))}
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except (StopIteration, UnicodeError, ValueError, csv.Error) as error:
        raise InputError(f"{path} is not {what}: {error}") from None

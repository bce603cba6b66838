"""Folders of categories: their photographs, what is left out, and what may have been meant."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from images.folders import RUN_FILES, Folder, is_photograph, visible, walk
from running.errors import InputError

# Nobody takes such files for photographs: notes, tables, settings, networks.
CLUTTER = frozenset(
    {".txt", ".md", ".html", ".pdf", ".csv", ".json", ".xml", ".log", ".ini", ".db"}
    | {".pth", ".onnx"}
)

# Why something is left out; a path stands before it.
LOOSE = "is in no category's folder"
DATA_FOLDER = "is a data folder of its own: it has a folder train"


@dataclass
class Remarks:
    """What there is to say of a data folder beside its photographs."""

    has_splits: bool = True  # or nothing but folders of categories
    only_within: bool = True  # no photograph is in a category's folder itself
    split_off: list[str] = field(default_factory=list)  # splits that there is no folder of
    notes: list[str] = field(default_factory=list)  # how it was divided
    left_out: list[tuple[str, str]] = field(default_factory=list)  # paths, each with the reason
    unreadable: list[str] = field(default_factory=list)  # folders that cannot be read, and why

    def add_error(self, error: InputError) -> None:
        """Take a note of a folder that cannot be read."""
        self.unreadable.append(str(error))


def images_by_category(
    folder: str | os.PathLike[str], remarks: Remarks, above: tuple[str, ...] = ()
) -> dict[str, list[str]]:
    """List each visible folder's photographs and those in folders within it, sorted by path.

    What is no category is left out, and added to the remarks: a folder that cannot be read, a link
    that leads back up, a run's folder without photographs, and, in a folder without splits, another
    data folder. Raises InputError if the folder itself cannot be read.
    """
    above = (*above, os.path.realpath(folder))
    by_category = {}
    for entry in visible(folder):
        if is_photograph(entry):
            remarks.left_out.append((entry.path, LOOSE))
        elif os.path.isdir(entry.path):
            found = [*walk(entry.path, remarks.add_error, above)]
            if not remarks.has_splits:
                found = _without_data_folders(found, remarks)
            photographs = sorted(path for each in found for path in each.photographs)
            others = [path for each in found for path in each.others]
            remarks.only_within &= not (found and found[0].photographs)
            is_run = any(os.path.basename(path) in RUN_FILES for path in others)
            if photographs or (found and not is_run):
                by_category[entry.name] = photographs
            remarks.left_out += [(path, reason) for path in others if (reason := _reason(path))]
    return by_category


def _without_data_folders(found: list[Folder], remarks: Remarks) -> list[Folder]:
    """Leave out folders that hold train/<category>/*, such as what an archive was unpacked to."""
    inside = set()
    for each in found:
        parts = each.path.removeprefix(found[0].path).split(os.sep)
        above = [part.lower() for part in parts[:-1]]
        if each.photographs and "train" in above:
            inside.add(found[0].path + os.sep.join(parts[: above.index("train")]))
    remarks.left_out += [(path, DATA_FOLDER) for path in inside]
    roots = tuple(path + os.sep for path in inside)
    return [each for each in found if not (each.path + os.sep).startswith(roots)]


def _reason(path: str) -> str | None:
    """Say why a file that is no photograph is left out, if that is worth a word."""
    suffix = os.path.splitext(path)[1]
    if suffix.lower() in CLUTTER:
        return None
    return f"has a suffix that is not read ({suffix})" if suffix else "has no suffix"


def explain_lack(
    data_dir: str | os.PathLike[str],
    found: Mapping[str, Mapping[str, list[str]]],
    remarks: Remarks,
    layout: str,
) -> str:
    """Explain why there are no two categories to train on, and what is likely to help."""
    there = [category for category, paths in found["train"].items() if paths]
    lack = f"{data_dir} has " + (
        f"one category only to train on ({there[0]})"
        if there
        else "no photographs in category folders"
    )
    left_out = remarks.left_out
    data_folders = sorted(path for path, reason in left_out if reason == DATA_FOLDER)
    if data_folders:
        return f"{lack}, but {data_folders[0]} has a folder train: give that"
    folders = {
        os.path.normpath(os.path.dirname(path))
        for split in ("train", *remarks.split_off)
        for paths in found.get(split, {}).values()
        for path in paths
    }
    if len(folders) > 1 and (common := os.path.commonpath(folders)) not in folders:
        advice = f"; expected {layout}" if remarks.has_splits else ": give that"
        return f"{lack}, but {common} looks like the folder of the categories{advice}"
    loose = [os.path.dirname(path) for path, reason in left_out if reason == LOOSE]
    if loose:
        count = loose.count(loose[0])
        are = "photograph is" if count == 1 else "photographs are"
        lack = f"{lack}; " if there else ""
        return f"{lack}{count} {are} in {loose[0]}, but in no category's folder; expected {layout}"
    if remarks.unreadable:
        return f"{lack}: {remarks.unreadable[0]}"
    if left_out:
        path, reason = min(left_out)
        return f"{lack}; files that are left out: {len(left_out)}; {path} {reason}"
    if there:
        return f"{lack}; telling flowers apart needs two or more"
    return f"no photographs to train on in {data_dir}; expected {layout}"

"""Links to photographs in a new folder."""

import os
import shutil
from pathlib import Path


def link(source: Path, place: Path) -> str:
    """Link a photograph, or copy it where that cannot be; return which: "linked" or "copied".

    Where the place is taken, a number is added to the name.
    """
    free, number = place, 1
    while os.path.lexists(free):
        free = place.with_stem(f"{place.stem}_{number}")
        number += 1
    free.parent.mkdir(parents=True, exist_ok=True)
    try:
        free.symlink_to(source)
        return "linked"
    except OSError:
        shutil.copyfile(source, free)
        return "copied"

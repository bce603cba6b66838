"""Seconds of `train.py --epochs 0` against the number of photographs and of categories.

python tests/benchmarks/growth.py flowers
"""

import argparse
import os
import tempfile
from pathlib import Path

from common import ROOT, machine, run

import data_utils


def link(data: data_utils.DataSet, folder: Path, categories: int, photographs: int) -> int:
    """Make a folder of links to some categories and about so many photographs; count these."""
    for name in ("train", "valid"):
        paths, labels = data.splits[name]
        chosen = [path for path, label in zip(paths, labels) if label < categories]
        step = max(1, len(chosen) / photographs) if name == "train" else 1
        chosen = [chosen[int(i * step)] for i in range(int(len(chosen) / step))]
        for path in chosen:
            place = folder / name / Path(path).parent.name / Path(path).name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(path)
    return sum(1 for _ in (folder / "train").glob("*/*"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data_dir")
    args = parser.parse_args()
    data = data_utils.find_data(os.path.abspath(args.data_dir))
    everything, all_categories = len(data.splits["train"].paths), len(data.categories)
    print(machine())
    for categories, photographs in (
        (all_categories, 1000),
        (all_categories, 2000),
        (all_categories, 4000),
        (all_categories, everything),
        (all_categories // 2, everything),
        (10, everything),
    ):
        with tempfile.TemporaryDirectory() as folder:
            count = link(data, Path(folder, "data"), categories, photographs)
            program = run(
                ROOT / "train.py", Path(folder, "data"), "--epochs", 0, "--save_dir", folder
            )
        accuracy = program.out.splitlines()[1].split()[3]
        print(
            f"{count} photographs, {categories} categories: {program.seconds:.0f} s, "
            f"{accuracy} on valid",
            flush=True,
        )


if __name__ == "__main__":
    main()

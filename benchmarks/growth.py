"""Seconds of `train.py --epochs 0` against the number of photographs and of categories.

python benchmarks/growth.py flowers
"""

import tempfile
from pathlib import Path

import numpy as np
from common import link_photographs, machine, make_parser, read_history, run_train

import data_utils


def link_some(data: data_utils.DataSet, folder: Path, categories: int, photographs: int) -> int:
    """Link some categories, with about `photographs` of train; return how many these are."""
    train, valid = (
        np.flatnonzero(data.splits[name].labels < categories) for name in ("train", "valid")
    )
    step = max(1, len(train) / photographs)
    train = train[(np.arange(int(len(train) / step)) * step).astype(int)]
    link_photographs(folder, data, "train", train)
    link_photographs(folder, data, "valid", valid)
    return len(train)


def main() -> None:
    args = make_parser(__doc__, "data_dir").parse_args()
    data = data_utils.find_data(args.data_dir)
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
            count = link_some(data, Path(folder, "data"), categories, photographs)
            program = run_train(Path(folder, "data"), folder, "--epochs", 0)
            accuracy = float(read_history(folder)[0]["valid_accuracy"])
        print(
            f"{count} photographs, {categories} categories: {program.seconds:.0f} s, "
            f"{accuracy:.2%} on valid",
            flush=True,
        )


if __name__ == "__main__":
    main()

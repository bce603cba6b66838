"""Updates of a run whose photographs change, against runs from scratch.

    python benchmarks/update.py grow flowers
    python benchmarks/update.py mend flowers
    python benchmarks/update.py large cifar10 --photographs 50000 --image_size 64
    python benchmarks/update.py tuned flowers --run RUN

All folders of photographs are made of links. `grow` starts with 82 of Oxford's categories, adds
the others one by one and removes them again; `mend` moves 1 % of train's photographs back to
where they belong; `large` adds 100 pictures to many; and
`tuned` updates a run of the first 82 categories whose last layers have learned.
"""

import json
import os
import random
import shutil
import statistics
import tempfile
from pathlib import Path

import numpy as np
import torch
from common import Program, machine, make_parser, run, run_train

import data_utils
from formats.pth import read_archive

IMPORTS = "import train, learning.fit, learning.head, learning.run, learning.update, model_utils"


def link_categories(source: data_utils.DataSet, folder: Path, categories: list[str]) -> None:
    """Make a folder whose categories are just these."""
    shutil.rmtree(folder, ignore_errors=True)
    for split in source.splits:
        for category in categories:
            place = folder / split / category
            place.mkdir(parents=True)
            original = Path(source.folder, split, category).resolve()
            for name in os.listdir(original):
                os.symlink(original / name, place / name)


def logits_of(folder: Path) -> torch.Tensor:
    """What the network of a finished run says of valid."""
    logits: torch.Tensor = read_archive(folder / "last.pth")["run"]["best"]["logits"]
    return logits


def difference(one: Path, other: Path) -> float:
    """The largest difference of two runs' logits on valid."""
    return (logits_of(one) - logits_of(other)).abs().max().item()


def measure_start() -> Program:
    """Let Python and torch start; of three times the one in the middle counts."""
    return sorted((run("-c", IMPORTS) for _ in range(3)), key=lambda each: each.cpu)[1]


def describe(title: str, folder: Path, program: Program, start: Program) -> None:
    """Print what a run took and how good it is."""
    report = json.loads((folder / "report.json").read_text())
    phases = ", ".join(f"{name} {seconds:.1f}" for name, seconds in report["seconds"].items())
    top1 = report["top1"]
    print(
        f"{title}: {program.seconds:.1f} s, {program.seconds - start.seconds:.1f} s without the "
        f"start; {program.cpu - start.cpu:.1f} s of CPU without it; {program.peak:.0f} MiB; "
        f"{top1['right']} of {report['photographs']} of valid correct; "
        f"{phases}",
        flush=True,
    )


def grow(data: data_utils.DataSet, scratch: Path, start: Program, first: int) -> None:
    """Add categories one by one, compare with a run of all from scratch, and remove them again."""
    folder, ours, afresh = scratch / "data", scratch / "run", scratch / "from_scratch"
    link_categories(data, folder, data.categories[:first])
    describe(f"{first} categories", ours, run_train(folder, ours, "--epochs", 0), start)
    shutil.copytree(ours, scratch / "first")
    steps = []
    for count in range(first + 1, len(data.categories) + 1):
        link_categories(data, folder, data.categories[:count])
        program = run_train(folder, ours, "--update")
        describe(f"{count} categories", ours, program, start)
        steps.append(program.seconds - start.seconds)
    print(f"median {statistics.median(steps):.1f} s, {min(steps):.1f} to {max(steps):.1f} s")
    program = run_train(folder, afresh, "--epochs", 0)
    describe("all from scratch", afresh, program, start)
    print(f"largest difference of logits: {difference(ours, afresh):.1g}")
    link_categories(data, folder, data.categories[:first])
    describe("without the others again", ours, run_train(folder, ours, "--update"), start)
    print(f"largest difference from the first head: {difference(ours, scratch / 'first'):.1g}")


def mend(data: data_utils.DataSet, scratch: Path, start: Program) -> None:
    """Move 1 % of train's photographs, which stand in wrong categories, to their own."""
    folder, ours, afresh = scratch / "data", scratch / "run", scratch / "from_scratch"
    link_categories(data, folder, data.categories)
    photographs = sorted((folder / "train").glob("*/*"))
    rng = random.Random(0)
    wrong = rng.sample(photographs, len(photographs) // 100)
    moved = []
    for path in wrong:
        others = [c for c in data.categories if c != path.parent.name]
        moved.append((path, folder / "train" / rng.choice(others) / path.name))
    for path, place in moved:
        path.rename(place)
    program = run_train(folder, ours, "--epochs", 0)
    describe(f"{len(wrong)} labels wrong", ours, program, start)
    for path, place in moved:
        place.rename(path)
    describe("corrected", ours, run_train(folder, ours, "--update"), start)
    program = run_train(folder, afresh, "--epochs", 0)
    describe("from scratch", afresh, program, start)
    print(f"largest difference of logits: {difference(ours, afresh):.1g}")


def large(
    data: data_utils.DataSet, scratch: Path, start: Program, count: int, image_size: int
) -> None:
    """Add 100 pictures to a large folder."""
    folder, ours = scratch / "data", scratch / "run"
    paths, labels = data.splits["train"]
    rows = np.sort(np.random.default_rng(0).permutation(len(paths))[:count])
    for number, i in enumerate(rows.tolist()):
        place = folder / data.categories[labels[i]]
        place.mkdir(parents=True, exist_ok=True)
        os.symlink(paths[i], place / f"{number:06}.jpg")
    late = sorted(folder.glob("*/*"))[:: count // 100][:100]
    for path in late:
        path.rename(scratch / f"{path.parent.name}_{path.name}")
    flags = ("--epochs", 0, "--image_size", image_size)
    describe(f"{count - 100} pictures", ours, run_train(folder, ours, *flags), start)
    for path in late:
        (scratch / f"{path.parent.name}_{path.name}").rename(path)
    describe("100 more", ours, run_train(folder, ours, "--update"), start)
    print(f"features.bin: {(ours / 'features.bin').stat().st_size / 1e6:.0f} MB")


def tuned(data: data_utils.DataSet, scratch: Path, start: Program, run_folder: Path) -> None:
    """Update a run of the first categories whose last layers have learned."""
    folder, ours = scratch / "data", scratch / "run"
    link_categories(data, folder, data.categories)
    shutil.copytree(run_folder, ours, ignore=shutil.ignore_patterns("data"))
    program = run_train(folder, ours, "--update")
    describe("all categories, on tuned layers", ours, program, start)
    print(program.out)
    link_categories(data, folder, data.categories[:-1])
    program = run_train(folder, ours, "--update")
    describe("one removed", ours, program, start)
    print(program.out)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("what", choices=("grow", "mend", "large", "tuned"))
    parser.add_argument("data_dir", type=os.path.abspath)
    parser.add_argument("--first", type=int, default=82, help="of grow: categories at the start")
    parser.add_argument("--photographs", type=int, default=50_000, help="of large")
    parser.add_argument("--image_size", type=int, default=64, help="of large")
    parser.add_argument("--run", type=Path, help="of tuned: the folder of a finished run")
    args = parser.parse_args()
    print(machine())
    data = data_utils.find_data(args.data_dir)
    start = measure_start()
    print(f"Python and torch start in {start.seconds:.1f} s, {start.cpu:.1f} s of CPU", flush=True)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        if args.what == "grow":
            grow(data, scratch, start, args.first)
        elif args.what == "mend":
            mend(data, scratch, start)
        elif args.what == "large":
            large(data, scratch, start, args.photographs, args.image_size)
        else:
            tuned(data, scratch, start, args.run.resolve())


if __name__ == "__main__":
    main()

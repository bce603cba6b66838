"""Batch jobs that are killed at random moments and go on, against jobs that are left in peace.

    python benchmarks/kill_batch.py checkpoint.pth FOLDER_OF_PHOTOGRAPHS --exported flowers.onnx

Each job names photographs into a file and is sent SIGKILL at a random moment, one in three jobs
once more, and is then started again with --continue, until it ends. The file must then be, byte for
byte, that of a job in peace. Folders, lists and shards, CSV and JSON lines; one input in fifty is
damaged.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import ROOT, machine, make_parser

import data_utils

JOBS = {
    "folder, CSV": ("FOLDER", "--format", "csv"),
    "list, JSON lines": ("-", "--format", "jsonl", "--top_k", "3"),
    "shard of a folder, CSV, --promise": (
        *("FOLDER", "--format", "csv", "--shard", "2/2", "--promise", "0.9"),
    ),
    "shard of a list, JSON lines, --reject": (
        *("-", "--format", "jsonl", "--shard", "1/2", "--reject"),
    ),
    "list, text, sorted": ("-", "--sort_into", "SORTED"),
}


def start(job: tuple[str, ...], network: str, folder: Path, output: Path) -> subprocess.Popen[str]:
    """Start a job, or go on with it."""
    places = {"FOLDER": str(folder), "SORTED": str(output.with_suffix(".sorted"))}
    words = [places.get(word, word) for word in job]
    command = [sys.executable, str(ROOT / "predict.py"), words[0], network, *words[1:]]
    paths = "".join(f"{path}\n" for path in sorted(folder.rglob("*.jpg")))
    process = subprocess.Popen(
        [*command, "--output", str(output), "--continue"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    try:
        process.stdin.write(paths)
        process.stdin.close()
    except BrokenPipeError:  # it was killed, or reads none
        pass
    return process


def finish(process: subprocess.Popen[str]) -> None:
    """Wait for the end of a job, some of whose inputs cannot be read."""
    assert process.stderr
    said = process.stderr.read()
    if process.wait() != 1:
        sys.exit(f"a job ended with exit code {process.returncode}: {said}")


def kill(process: subprocess.Popen[str], after: float) -> bool:
    """Kill a job after some seconds; tell whether it had not come to its end before."""
    time.sleep(after)
    process.kill()
    return process.wait() == -signal.SIGKILL


def link_photographs(folder: Path, paths: list[str]) -> None:
    """Make a folder of links to photographs, of which one in fifty leads to no photograph."""
    broken = folder.with_name("broken.jpg")
    broken.write_bytes(Path(paths[0]).read_bytes()[:1000])
    for i, path in enumerate(paths):
        place = folder / str(i % 7) / f"{i:05}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(broken if i % 50 == 10 else path)


def sorted_into(output: Path) -> dict[str, str]:
    """Read which links a job has made."""
    folder = output.with_suffix(".sorted")
    return {str(p.relative_to(folder)): os.readlink(p) for p in folder.rglob("*.jpg")}


def main() -> None:
    parser = make_parser(__doc__, "checkpoint", "folder")
    parser.add_argument("--exported", type=os.path.abspath, help="every other job is of this file")
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--count", type=int, default=300, help="photographs of a job")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    args = parser.parse_args()
    print(machine())
    rng = random.Random(args.seed)
    equal = kills = 0
    behind = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "photographs")
        link_photographs(folder, data_utils.find_photographs(args.folder)[: args.count])
        networks = [args.checkpoint] + [args.exported] * bool(args.exported)
        cases = [(job, network) for job in JOBS for network in networks]
        for number, (job, network) in enumerate(cases):
            peace = Path(scratch, f"peace {number}")
            started = time.perf_counter()
            finish(start(JOBS[job], network, folder, peace))
            seconds = time.perf_counter() - started
            print(f"{job}, {os.path.basename(network)}: {seconds:.1f} s in peace", flush=True)
            for run in range(args.runs // len(cases)):
                output = Path(scratch, f"{number} {run}")
                planned = 1 + (rng.random() < 1 / 3)
                while planned:
                    process = start(JOBS[job], network, folder, output)
                    if not kill(process, rng.uniform(0, seconds)):  # it had come to its end
                        output.unlink()
                        continue
                    planned, kills = planned - 1, kills + 1
                    log = Path(f"{output}.part.log")
                    behind.append(max(0, log.read_bytes().count(b"\n") - 1) if log.exists() else 0)
                finish(start(JOBS[job], network, folder, output))
                same = output.read_bytes() == peace.read_bytes()
                same &= sorted_into(output) == sorted_into(peace)
                left = [*Path(scratch).glob(f"{number} {run}.part*")]
                equal += same and not left
                if not same or left:
                    print(f"  job {run} differs, or leaves {left}")
    print(
        f"{kills} kills, behind {min(behind)} to {max(behind)} records "
        f"({sum(1 for count in behind if count)} of them behind one or more); "
        f"{equal} of {len(cases) * (args.runs // len(cases))} files equal those of jobs in peace"
    )


if __name__ == "__main__":
    main()

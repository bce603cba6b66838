"""Thousands of paths through standard input, one in fifty unreadable: records, order, memory.

python benchmarks/batch.py checkpoint.pth FOLDER_OF_PHOTOGRAPHS
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import ROOT, machine, make_parser

import data_utils


def resident_memory(process: subprocess.Popen[str]) -> int:
    """Read how much memory a process holds now, in MiB (Linux)."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) // 1024


def main() -> None:
    parser = make_parser(__doc__, "checkpoint", "folder")
    parser.add_argument("--count", type=int, default=10_000, help="inputs, from the folder in turn")
    args = parser.parse_args()
    photographs = data_utils.find_photographs(args.folder)
    print(f"{machine()}; {len(photographs)} photographs", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        cut, inputs = Path(folder, "cut.jpg"), Path(folder, "inputs")
        cut.write_bytes(Path(photographs[0]).read_bytes()[:1000])
        paths = [photographs[i % len(photographs)] for i in range(args.count)]
        paths[49::50] = [str(cut)] * len(paths[49::50])
        inputs.write_text("".join(f"{path}\n" for path in paths))
        started = time.perf_counter()
        with open(inputs) as stdin:
            process = subprocess.Popen(
                [sys.executable, ROOT / "predict.py", "-", args.checkpoint, "--format", "jsonl"],
                text=True,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        assert process.stdout and process.stderr
        files, errors = [], 0
        for line in process.stdout:
            record = json.loads(line)
            files.append(record["file"])
            errors += "error" in record
            if len(files) % max(1, args.count // 10) == 0 and process.poll() is None:
                print(f"after {len(files)} records: {resident_memory(process)} MiB", flush=True)
        said, code = process.stderr.read(), process.wait()
        seconds = time.perf_counter() - started
    print(
        f"{len(files)} records, in order: {files == paths}; {errors} errors, of "
        f"{paths.count(str(cut))} unreadable inputs; exit code {code}, {said.strip()!r}"
    )
    print(f"{seconds:.0f} s, {len(files) / seconds:.0f} photographs a second from start to exit")


if __name__ == "__main__":
    main()

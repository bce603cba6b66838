"""Thousands of paths through standard input, one in fifty unreadable: records, order, memory.

python tests/benchmarks/batch.py checkpoint.pth FOLDER_OF_PHOTOGRAPHS
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from common import ROOT, machine

import data_utils


def resident(process: subprocess.Popen) -> int:
    """Read how much memory a process holds now, in MiB (Linux)."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("folder")
    parser.add_argument("--count", type=int, default=10_000, help="inputs, from the folder in turn")
    args = parser.parse_args()
    photographs = data_utils.find_photographs(args.folder)
    print(f"{machine()}; {len(photographs)} photographs", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        cut = Path(folder, "cut.jpg")
        cut.write_bytes(Path(photographs[0]).read_bytes()[:1000])
        paths = [
            str(cut) if i % 50 == 49 else photographs[i % len(photographs)]
            for i in range(args.count)
        ]
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, ROOT / "predict.py", "-", args.checkpoint, "--format", "jsonl"],
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

        def feed() -> None:
            with process.stdin as stream:
                stream.writelines(f"{path}\n" for path in paths)

        threading.Thread(target=feed).start()
        files, errors = [], 0
        for line in process.stdout:
            record = json.loads(line)
            files.append(record["file"])
            errors += "error" in record
            if len(files) % (args.count // 10) == 0 and process.poll() is None:
                print(f"after {len(files)} records: {resident(process)} MiB", flush=True)
        said, code = process.stderr.read(), process.wait()
        seconds = time.perf_counter() - started
    print(
        f"{len(files)} records, in order: {files == paths}; {errors} errors, of "
        f"{paths.count(str(cut))} unreadable inputs; exit code {code}, {said.strip()!r}"
    )
    print(f"{seconds:.0f} s, {len(files) / seconds:.0f} photographs a second from start to exit")


if __name__ == "__main__":
    main()

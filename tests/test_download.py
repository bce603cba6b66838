"""--download, from small archives of the publishers' form that a server on this machine holds."""

import hashlib
import io
import os
import re
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, file_size_limit
from PIL import Image

import data_utils
import train
from data_utils import InputError

# Forty photographs of two categories, the first of them in two runs.
RUNS = ((1, 21), (11, 3), (31, 21))
COUNT = 40


def tar_of(members: dict[str, bytes], extra: tarfile.TarInfo | None = None) -> bytes:
    """Pack files, with at most one odd member before the last."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for number, (name, content) in enumerate(members.items(), start=1):
            if extra and number == len(members):
                tar.addfile(extra, io.BytesIO(b"x" * extra.size))
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def photographs() -> dict[str, bytes]:
    """Draw the content of the archive of flowers: noise, which does not shrink when packed."""
    rng, files = np.random.default_rng(0), {}
    for number in range(1, COUNT + 1):
        jpeg = io.BytesIO()
        pixels = rng.integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(pixels).save(jpeg, "JPEG", quality=95)
        files[f"jpg/image_{number:05}.jpg"] = jpeg.getvalue()
    return files


PHOTOGRAPHS = photographs()
FLOWERS = tar_of(PHOTOGRAPHS)


class Server(ThreadingHTTPServer):
    """Serves one archive as well or badly as a test wants, and notes what it was asked."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = FLOWERS
        self.ranges = True  # whether it knows them
        self.status = 200
        self.break_off: int | None = None  # after so many bytes
        self.hangs = False  # instead of breaking off
        self.requests: list[tuple[str | None, int]] = []  # Range, and bytes sent
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        server, wanted = self.server, self.headers["Range"]
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and server.ranges else 0
        total = len(server.content)
        status = server.status if not start else 206 if start < total else 416
        body = server.content[start:] if status in (200, 206) else b"sorry"
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        body = body[: server.break_off]
        server.requests.append((wanted, len(body)))  # before the headers go out
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
        if server.hangs:
            time.sleep(1)


@pytest.fixture
def server(monkeypatch):
    """A server of forty flowers, which `--download flowers` asks."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(data_utils, "FLOWER_RUNS", RUNS)
    # Small pieces, so that the first ones are written before a connection breaks off.
    monkeypatch.setattr(data_utils, "CHUNK", 2**10)
    with Server() as server:
        publish(monkeypatch, server, FLOWERS)
        yield server
        server.shutdown()


def publish(
    monkeypatch, server: Server, content: bytes, name: str = "flowers", count: int = COUNT
) -> None:
    """Let these bytes be the known archive, and serve them."""
    server.content = content
    known = data_utils.KNOWN_DATA_SETS[name]
    monkeypatch.setitem(
        data_utils.KNOWN_DATA_SETS,
        name,
        known._replace(
            url=f"http://127.0.0.1:{server.server_port}/{known.archive}",
            size=len(content),
            md5=hashlib.md5(content).hexdigest(),
            photographs=count,
        ),
    )


def visible(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def require_flowers(folder: Path) -> None:
    """Assert that the forty photographs are there, each once, byte for byte, by the rule."""
    assert visible(folder) == ["102flowers.tgz", "test", "train", "valid"]
    paths = [path.relative_to(folder) for path in folder.rglob("*.jpg")]
    assert Counter(path.parts[:2] for path in paths) == {
        ("train", "21"): 16,
        ("valid", "21"): 2,
        ("test", "21"): 2,
        ("train", "3"): 16,
        ("valid", "3"): 2,
        ("test", "3"): 2,
    }
    for path in paths:
        number = int(path.stem.removeprefix("image_"))
        assert path.parts[1] == ("3" if 11 <= number <= 30 else "21")
        assert (folder / path).read_bytes() == PHOTOGRAPHS[f"jpg/{path.name}"]
    assert len({path.name for path in paths}) == COUNT


# --- What is fetched ------------------------------------------------------------------


def test_flowers_are_fetched_checked_and_not_fetched_again(
    run_script, server, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "model_utils", None)  # torch is not needed
    folder = tmp_path / "new" / "flowers"
    run = run_script("train", folder, "--download", "flowers", "--check_data")
    assert run.code == 0 and run.out.splitlines()[1].split() == [
        "train",
        "32",
        "2",
        "16",
        "to",
        "16",
    ]
    assert run.err.startswith(f"putting flowers into {folder}, from 102flowers.tgz if")
    require_flowers(folder)
    assert server.requests == [(None, len(FLOWERS))]
    assert run_script("train", folder, "--download", "flowers", "--check_data").err == ""
    assert len(server.requests) == 1


def test_a_run_trains_on_what_it_has_fetched(run_script, server, tmp_path):
    run = run_script(
        "train",
        tmp_path / "flowers",
        "--download",
        "flowers",
        "--arch",
        "cnn",
        "--image_size",
        "32",
        "--epochs",
        "1",
        "--save_dir",
        tmp_path / "flowers/run",
    )
    assert run.code == 0 and "32 train, 4 valid, 4 test photographs" in run.err


@pytest.mark.parametrize(
    "option, value, words",
    [
        ("--arch", "efficentnet", "did you mean"),
        ("--category_names", "nowhere.json", "nowhere.json"),
        ("--save_dir", "train.py", "train.py cannot be written to"),
    ],
)
def test_what_is_mistyped_need_not_wait(
    run_script, server, tmp_path, monkeypatch, option, value, words
):
    monkeypatch.chdir(ROOT)
    run = run_script("train", tmp_path / "flowers", "--download", "flowers", option, value)
    assert run.code == 2 and words in run.err and server.requests == []


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--demo", "--download", "flowers"], "leave --download out"),
        (["--download", "flowers"], "DATA_DIR is missing"),
        (["x", "--download", "roses"], "invalid choice: 'roses'"),
    ],
)
def test_mistakes_of_the_command_line(run_script, arguments, words):
    run = run_script("train", *arguments)
    assert run.code == 2 and words in run.err.splitlines()[-1]


def test_progress_counts_bytes_and_photographs(server, tmp_path):
    seen = []

    def progress(batches, total, word, unit="photos", done=0):
        batches = list(batches)
        seen.append((word, unit, done + sum(map(len, batches)), total))
        return batches

    (tmp_path / "102flowers.tgz.part").write_bytes(FLOWERS[:100])
    data_utils.download("flowers", tmp_path, progress)
    assert seen == [
        ("fetching", "B", len(FLOWERS), len(FLOWERS)),
        ("unpacking", "photos", COUNT, COUNT),
    ]
    assert list(train.with_bar([b"12", b"3"], 3, "fetching", "B", 0)) == [b"12", b"3"]


def test_an_archive_that_lies_there_is_verified_and_used(server, tmp_path):
    archive = tmp_path / "102flowers.tgz"
    archive.write_bytes(FLOWERS[:-1])
    with pytest.raises(InputError, match=f"{archive} is damaged or another file .*move it away"):
        data_utils.download("flowers", tmp_path)
    assert visible(tmp_path) == ["102flowers.tgz"] and archive.read_bytes() == FLOWERS[:-1]
    archive.write_bytes(FLOWERS)
    data_utils.download("flowers", tmp_path)
    require_flowers(tmp_path)
    assert server.requests == []


@pytest.mark.parametrize(
    "make",
    [Path.mkdir, lambda path: path.symlink_to("nowhere"), os.mkfifo],
    ids=["folder", "broken link", "pipe"],
)
def test_what_is_no_archive_is_one_sentence(server, tmp_path, make):
    make(tmp_path / "102flowers.tgz")
    with pytest.raises(InputError, match="102flowers.tgz is no file"):
        data_utils.download("flowers", tmp_path)
    assert visible(tmp_path) == ["102flowers.tgz"]


@pytest.mark.parametrize("place", ["valid/1", "Validation/1", "roses"])
def test_photographs_of_the_users_are_not_mixed_with(server, tmp_path, place):
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / place / "a.jpg").touch()
    with pytest.raises(InputError, match="has photographs, but no folder train"):
        data_utils.download("flowers", tmp_path)
    assert server.requests == []


# --- CIFAR-10, and the rule -----------------------------------------------------------


def test_cifar10_has_its_layout_and_pixels(server, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    records = rng.integers(0, 256, (6, 20, 3073), np.uint8)
    records[:, :, 0] = np.arange(20) % 10
    names = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
    members = {
        f"cifar-10-batches-bin/{name}": batch.tobytes() for name, batch in zip(names, records)
    }
    members = dict(reversed(members.items()))  # the order in the archive does not matter
    publish(
        monkeypatch,
        server,
        tar_of({**members, "cifar-10-batches-bin/readme.html": b"?"}),
        "cifar10",
        120,
    )
    data_utils.download("cifar10", tmp_path)

    assert visible(tmp_path) == ["cifar-10-binary.tar.gz", "test", "train", "valid"]
    categories = "airplane automobile bird cat deer dog frog horse ship truck".split()
    paths = [path.relative_to(tmp_path) for path in tmp_path.rglob("*.png")]
    assert Counter(path.parts[:2] for path in paths) == {
        (split, category): count
        for category in categories
        for split, count in (("train", 9), ("valid", 1), ("test", 2))
    }
    for path in paths:
        split, number = path.stem.split("_")
        record = (records[5] if split == "test" else records[:5].reshape(-1, 3073))[int(number) - 1]
        assert (path.parts[0] == "test") == (split == "test")
        assert path.parts[1] == categories[record[0]]
        pixels = np.asarray(Image.open(tmp_path / path))
        assert pixels.shape == (32, 32, 3)
        for row, column, channel in ((0, 0, 0), (0, 1, 0), (1, 0, 0), (31, 31, 2), (5, 9, 1)):
            assert pixels[row, column, channel] == record[1 + channel * 1024 + row * 32 + column]
        assert (pixels == record[1:].reshape(3, 32, 32).transpose(1, 2, 0)).all()
    data = data_utils.find_data(tmp_path)
    assert data.categories == categories and data.gaps == data.notes == []


def test_all_of_oxfords_categories_are_in_all_splits():
    """The runs of labels, against the counts of the paper and single photographs."""
    firsts, categories = zip(*data_utils.FLOWER_RUNS)
    assert (
        len(firsts) == 125
        and list(firsts) == sorted(firsts)
        and set(categories) == set(range(1, 103))
    )
    files = {f"jpg/image_{number:05}.jpg": b"" for number in range(1, 8190)}
    with tarfile.open(fileobj=io.BytesIO(tar_of(files)), mode="r|gz") as tar:
        paths = [path for [(path, _)] in data_utils._read_flowers(tar, 8189)]
    assert len(set(paths)) == 8189
    per_category = Counter(path.split("/")[1] for path in paths)
    assert min(per_category.values()) == 40 and max(per_category.values()) == 258
    each = Counter(path.rsplit("/", 1)[0] for path in paths)
    for category, count in per_category.items():
        assert each[f"valid/{category}"] == each[f"test/{category}"] == (count + 5) // 10
    assert per_category["1"] == 40 and per_category["51"] == 258 and per_category["77"] == 251
    for number, category in ((1, 77), (6734, 1), (6773, 1), (6774, 21), (8189, 62)):
        assert any(path.endswith(f"/{category}/image_{number:05}.jpg") for path in paths)


def test_the_rule_depends_on_names_alone():
    files = [f"image_{number:05}.jpg" for number in range(1, 26)]
    paths = data_utils._deal({"1": files}, ["valid", "test"], "train")
    assert paths == data_utils._deal({"1": files[::-1]}, ["valid", "test"], "train")
    # Written down, so that no change of the code changes anybody's test split.
    assert sorted(file for file, path in paths.items() if path.startswith("test/1/")) == [
        "image_00005.jpg",
        "image_00009.jpg",
        "image_00010.jpg",
    ]
    few = data_utils._deal({"1": files[:4]}, ["valid", "test"], "train")
    assert few == {file: f"train/1/{file}" for file in files[:4]}


# --- What goes wrong ------------------------------------------------------------------


def fail(run_script, folder: Path, code: int = 2) -> str:
    """Return the one sentence of a run that fails, which leaves no data set."""
    run = run_script("train", folder, "--download", "flowers", "--check_data")
    assert run.code == code and run.out == "" and "Traceback" not in run.err
    assert len(run.err.splitlines()) == 2  # what it is about to do, and what went wrong
    assert not {"train", "valid", "test"} & set(visible(folder))
    assert not [name for name in visible(folder) if name.startswith(".")]
    return run.err.splitlines()[-1]


def test_a_dropped_connection_is_resumed(run_script, server, tmp_path):
    server.break_off = len(FLOWERS) // 3
    for goes in (1, 2):
        sentence = fail(run_script, tmp_path)
        assert f"it broke off after {goes * server.break_off} of {len(FLOWERS)} bytes" in sentence
        assert f"or put 102flowers.tgz into {tmp_path} by hand" in sentence
        assert (tmp_path / "102flowers.tgz.part").stat().st_size == goes * server.break_off
    server.break_off = None
    data_utils.download("flowers", tmp_path)
    require_flowers(tmp_path)
    third = len(FLOWERS) // 3
    assert [wanted for wanted, _ in server.requests] == [
        None,
        f"bytes={third}-",
        f"bytes={2 * third}-",
    ]
    assert sum(sent for _, sent in server.requests) == len(FLOWERS)  # nothing twice


def test_without_ranges_it_starts_anew(server, tmp_path):
    server.ranges = False
    (tmp_path / "102flowers.tgz.part").write_bytes(b"?" * 1000)
    data_utils.download("flowers", tmp_path)
    require_flowers(tmp_path)
    assert server.requests == [("bytes=1000-", len(FLOWERS))]


def test_a_part_of_another_file_starts_anew(server, tmp_path, monkeypatch):
    """The server's file is shorter than what is here (416), or as long as no known one."""
    part = tmp_path / "102flowers.tgz.part"
    for change in (-500, 500):
        server.content = FLOWERS[:change] if change < 0 else FLOWERS + b"?" * change
        part.write_bytes(b"?" * (len(FLOWERS) - 100))
        with pytest.raises(InputError, match=f"{len(FLOWERS) + change} bytes instead of"):
            data_utils.download("flowers", tmp_path)
        assert [wanted for wanted, _ in server.requests[-2:]] == [
            f"bytes={len(FLOWERS) - 100}-",
            None,
        ]
    server.content = FLOWERS
    part.write_bytes(b"?" * (len(FLOWERS) + 1))  # longer than it can be
    data_utils.download("flowers", tmp_path)
    require_flowers(tmp_path)
    assert server.requests[-1] == (None, len(FLOWERS))


def test_a_whole_part_is_not_fetched_again(server, tmp_path):
    (tmp_path / "102flowers.tgz.part").write_bytes(FLOWERS)
    data_utils.download("flowers", tmp_path)
    require_flowers(tmp_path)
    assert server.requests == []


def test_a_wrong_checksum_is_refused_before_unpacking(run_script, server, tmp_path, monkeypatch):
    server.content = FLOWERS[:-1] + b"?"
    monkeypatch.setattr(data_utils, "_unpack", lambda *_: pytest.fail("it is unpacked"))
    assert "has another checksum, and was removed" in fail(run_script, tmp_path)
    assert visible(tmp_path) == []  # or every later attempt would end here


def test_404_and_nobody_there(run_script, server, tmp_path):
    server.status = 404
    assert "102flowers.tgz cannot be had (HTTP Error 404: Not Found); try" in fail(
        run_script, tmp_path
    )
    server.shutdown()
    server.server_close()
    assert "Connection refused" in fail(run_script, tmp_path)
    assert visible(tmp_path) == []


def test_an_unknown_host_is_one_sentence(run_script, server, tmp_path, monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert "Name or service not known" in fail(run_script, tmp_path)


def test_a_silent_server_is_not_waited_for(run_script, server, tmp_path, monkeypatch):
    monkeypatch.setattr(data_utils, "PATIENCE", 0.2)
    server.break_off = 2000
    server.hangs = True
    assert "timed out" in fail(run_script, tmp_path)
    # What came goes on, but for what was still in the socket's buffer.
    assert 0 < (tmp_path / "102flowers.tgz.part").stat().st_size <= 2000
    with socket.create_server(("127.0.0.1", 0)) as mute:  # takes calls and says nothing
        known = data_utils.KNOWN_DATA_SETS["flowers"]
        monkeypatch.setitem(
            data_utils.KNOWN_DATA_SETS,
            "flowers",
            known._replace(url=f"http://127.0.0.1:{mute.getsockname()[1]}/102flowers.tgz"),
        )
        assert "timed out" in fail(run_script, tmp_path)


def test_a_full_disk_keeps_what_was_fetched(run_script, server, tmp_path):
    with file_size_limit(50_000):
        sentence = fail(run_script, tmp_path, code=1)
    assert f"flowers cannot be written into {tmp_path}: File too large; with room" in sentence
    assert (tmp_path / "102flowers.tgz.part").stat().st_size == 50_000
    data_utils.download("flowers", tmp_path)
    require_flowers(tmp_path)
    assert server.requests[-1] == ("bytes=50000-", len(FLOWERS) - 50_000)


def test_a_full_disk_while_unpacking(run_script, server, tmp_path):
    (tmp_path / "102flowers.tgz").write_bytes(FLOWERS)
    with file_size_limit(1000):
        sentence = fail(run_script, tmp_path, code=1)
    assert "File too large" in sentence
    assert visible(tmp_path) == ["102flowers.tgz"]


@pytest.mark.parametrize(
    "name, kind, words",
    [
        ("../evil.jpg", tarfile.REGTYPE, "'../evil.jpg' in it is a link, a device or a path out"),
        ("jpg/../../evil.jpg", tarfile.REGTYPE, "a path out of the folder"),
        ("/tmp/evil.jpg", tarfile.REGTYPE, "a path out of the folder"),
        ("jpg/image_00040.jpg", tarfile.SYMTYPE, "'jpg/image_00040.jpg' in it is a link"),
        ("jpg/image_00040.jpg", tarfile.LNKTYPE, "is a link"),
        ("jpg/image_00040.jpg", tarfile.CHRTYPE, "a device"),
    ],
)
def test_a_hostile_archive_is_refused(run_script, server, tmp_path, monkeypatch, name, kind, words):
    evil = tarfile.TarInfo(name)
    evil.type, evil.linkname = kind, "/etc/passwd"
    publish(monkeypatch, server, tar_of(PHOTOGRAPHS, evil))
    folder = tmp_path / "a" / "flowers"
    assert words in fail(run_script, folder)
    assert visible(folder) == ["102flowers.tgz"] and visible(tmp_path / "a") == ["flowers"]
    assert not list(tmp_path.rglob("*evil*")) and not os.path.exists("/tmp/evil.jpg")


def test_only_expected_members_are_taken(server, tmp_path, monkeypatch):
    extra = tarfile.TarInfo("jpg/image_00041.jpg")
    extra.size = 9
    publish(
        monkeypatch,
        server,
        tar_of({"jpg/readme.txt": b"?", "train/21/mine.jpg": b"?", **PHOTOGRAPHS}, extra),
    )
    data_utils.download("flowers", tmp_path)
    require_flowers(tmp_path)


@pytest.mark.parametrize(
    "content, words",
    [
        (
            tar_of(dict(list(PHOTOGRAPHS.items())[:-2])),
            "lacks 2 files, among them jpg/image_00039.jpg",
        ),
        (FLOWERS[:5000], "cannot be unpacked: "),
        (b"hello" * 999, "cannot be unpacked: "),
    ],
)
def test_an_archive_that_is_not_whole(run_script, server, tmp_path, monkeypatch, content, words):
    publish(monkeypatch, server, content)
    assert words in fail(run_script, tmp_path)
    assert visible(tmp_path) == ["102flowers.tgz"]


# --- Interruptions --------------------------------------------------------------------


def test_unpacking_that_is_interrupted_starts_again(server, tmp_path, monkeypatch):
    write, written = Path.write_bytes, []

    def interrupt(path, content):
        written.append(path)
        if len(written) == 20:
            raise KeyboardInterrupt
        return write(path, content)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "write_bytes", interrupt)
        data_utils.download("flowers", tmp_path)
    assert visible(tmp_path) == ["102flowers.tgz"]
    data_utils.download("flowers", tmp_path)
    require_flowers(tmp_path)
    assert len(server.requests) == 1


KILLED = """
import os, signal, sys
from pathlib import Path
import data_utils
name, moment, folder, size, md5 = sys.argv[1:]
owner = {"replace": os, "write_bytes": Path}[name]
function, calls = getattr(owner, name), []
def kill(*arguments):
    calls.append(1)
    if len(calls) == int(moment):
        os.kill(os.getpid(), signal.SIGKILL)
    return function(*arguments)
setattr(owner, name, kill)
data_utils.FLOWER_RUNS = RUNS
data_utils.KNOWN_DATA_SETS["flowers"] = data_utils.KNOWN_DATA_SETS["flowers"]._replace(
    url="http://127.0.0.1:9/102flowers.tgz", size=int(size), md5=md5, photographs=COUNT)
data_utils.download("flowers", folder)
""".replace("RUNS\n", f"{RUNS}\n").replace("COUNT", str(COUNT))


@pytest.mark.parametrize(
    "function, moment",
    [
        ("write_bytes", 20),
        ("replace", 1),
        ("replace", 2),
        ("replace", 3),
        ("replace", 4),
        ("replace", 5),
    ],
)
def test_after_sigkill_the_same_command_starts_cleanly(server, tmp_path, function, moment):
    """Killed while it unpacks, and before each renaming: archive, folder, test, valid, train."""
    (tmp_path / "102flowers.tgz.part").write_bytes(FLOWERS)
    process = subprocess.run(
        [
            sys.executable,
            "-c",
            KILLED,
            function,
            str(moment),
            tmp_path,
            str(len(FLOWERS)),
            hashlib.md5(FLOWERS).hexdigest(),
        ],
        cwd=ROOT,
    )
    assert process.returncode == -signal.SIGKILL
    assert not data_utils.has_train(tmp_path)
    data_utils.download("flowers", tmp_path)
    require_flowers(tmp_path)
    assert server.requests == []


def test_one_download_at_a_time(run_script, server, tmp_path):
    with data_utils.hold(tmp_path, []):
        run = run_script("train", tmp_path, "--download", "flowers", "--check_data")
    assert run.code == 2 and f"another train.py is at work in {tmp_path}" in run.err

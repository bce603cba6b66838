"""The folder of an app: what is in it, when it is there, and where its runtime comes from."""

import base64
import gzip
import hashlib
import io
import json
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
from conftest import small_info
from file_server import FileServer

from formats.schema import QUANTILES, Calibration, CalibrationSet
from images.decode import Preprocessing
from prediction import app as web_app
from prediction.answers import Answers
from prediction.app import PACKAGE, default_answers, package_path, write_app
from running.errors import InputError

PREPROCESSING = Preprocessing(36, 32, (1.0,) * 3, (2.0,) * 3)
QUANTILE = np.linspace(0, 1, QUANTILES, dtype=np.float32)


def info_of(count: int = 400, wrong: int = 0):
    """What a file knows of a network that named so many of valid, so many of them wrongly."""
    shares = np.full((count, 3), 0.005)
    shares[:, 0] = 0.99
    labels = np.zeros(count, int)
    labels[:wrong] = 1
    valid = CalibrationSet(np.log(shares).astype(np.float16), labels, np.full(count, 0.8))
    return small_info(PREPROCESSING, calibration=Calibration(1.0, QUANTILE, valid))


def answers_of(**changes) -> Answers:
    info = info_of(**changes)
    return default_answers(info, info.names)


def make_package(files: dict[str, bytes]) -> bytes:
    """Pack files as npm does."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as package:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            package.addfile(member, io.BytesIO(content))
    return packed.getvalue()


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A registry that has a small package, and a cache without it."""
    files = {name: name.encode() for name in ("package/a", *web_app.RUNTIME, "package/z")}
    package = make_package(files)
    digest = base64.b64encode(hashlib.sha512(package).digest()).decode()
    monkeypatch.setattr(web_app, "SHA512", digest)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with FileServer(package) as server:
        monkeypatch.setenv("npm_config_registry", server.url(""))
        yield server


@pytest.fixture
def app(server, tmp_path) -> Path:
    write_app(tmp_path / "app", b"network", answers_of())
    return tmp_path / "app"


def digest_of(app: Path) -> str:
    return re.match(r'const DIGEST = "([0-9a-f]{64})";\n', (app / "sw.js").read_text())[1]


# --- What is in it --------------------------------------------------------------------


def test_the_page_is_told_what_the_answers_go_by(app):
    answers, known = answers_of(), json.loads((app / "flowers.json").read_text())
    assert known["format"] == web_app.FORMAT
    runtime = gzip.decompress((app / web_app.PACKED).read_bytes())
    assert runtime == b"package/dist/ort-wasm-simd-threaded.wasm"
    assert known["names"] == ["orchid", "10", "rose"]
    assert known["categories"] == ["2", "10", "rose"]
    assert known["preprocessing"] == {"resize": 36, "crop": 32, "interpolation": "bicubic"}
    assert known["lowest"] == answers.lowest
    assert known["promise"] == {
        "promise": 0.99,
        "lowest": answers.threshold,
        "least": answers.least,
    }


def test_the_highest_promise_that_can_be_kept_is_kept():
    for count, wrong, promise in ((400, 0, 0.99), (200, 0, 0.98), (10, 0, None), (400, 300, None)):
        answers = answers_of(count=count, wrong=wrong)
        assert (answers.promise, answers.lowest > 0) == (promise, True)
    old = small_info(PREPROCESSING)  # of a version that kept nothing of valid
    assert default_answers(old, old.names).promise is None


def test_whatever_changes_is_new_to_phones_that_have_the_app(app, tmp_path, monkeypatch):
    first = digest_of(app)
    write_app(app, b"network", answers_of())
    assert digest_of(app) == first
    write_app(app, b"another", answers_of())
    second = digest_of(app)
    write_app(app, b"another", Answers(info_of(), info_of().names))
    assert len({first, second, digest_of(app)}) == 3


def test_everything_is_kept_for_the_time_without_a_connection(app):
    text = re.search(r"^const FILES = (\{.*?\n\});$", (app / "sw.js").read_text(), re.M | re.S)
    files = json.loads(text[1])
    assert set(files) == {"./"} | {path.name for path in app.iterdir()} - {"sw.js"}
    for name, digest in files.items():
        path = app / ("index.html" if name == "./" else name)
        assert digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_page_asks_nobody_else():
    for path in web_app.SOURCES.iterdir():
        if path.suffix != ".png":
            urls = set(re.findall(r"https?://[^\s\"'<>)]+", path.read_text(encoding="utf-8")))
            assert urls <= {"http://www.w3.org/2000/svg"}, path
    policy = re.search(
        r'content="(default-src[^"]*)"', (web_app.SOURCES / "index.html").read_text()
    )
    rules = dict(rule.split(" ", 1) for rule in policy[1].split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["connect-src"] == "'self'"
    assert {*" ".join(rules.values()).split()} == {"'none'", "'self'", "'wasm-unsafe-eval'"}


# --- When it is there -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("photo.jpg", "mine"),
        ("flowers.json", "{"),
        ("flowers.json", '{"format": "another"}'),
        ("flowers.json", "[]"),
    ],
)
def test_what_is_no_app_is_refused_before_anything_is_downloaded(server, tmp_path, name, content):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text(content)
    with pytest.raises(
        InputError, match=f"mine holds {name}, which is not part of an app of predict.py; "
    ):
        write_app(tmp_path / "mine", b"network", answers_of())
    assert [path.name for path in (tmp_path / "mine").iterdir()] == [name]
    assert not server.requests


# --- The runtime ----------------------------------------------------------------------


def test_without_a_network_one_sentence_says_what_to_do(server, tmp_path):
    server.close()
    with pytest.raises(InputError) as raised:
        write_app(tmp_path / "app", b"network", answers_of())
    message = str(raised.value)
    assert message.startswith(f"the app computes with ONNX Runtime Web: {server.url('')}onnx")
    assert f"or put {PACKAGE} into {package_path().parent} by hand" in message
    assert "\n" not in message

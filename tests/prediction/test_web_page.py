"""The page of an app, in a browser: what it names, shows, says and keeps.

Nothing here needs a connection: the runtime's package has to be in the user's cache, where an
export put it.
"""

import base64
import json
import re
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from browser import Browser, FolderServer, Page, find_browser
from PIL import Image
from profiles import DISPLAY_P3, look_alike, rgb_profile

import model_utils
from formats import onnx_file as onnx_runtime
from formats.schema import Prediction
from images.decode import load_image
from images.drawn import FLOWERS, draw_flower
from prediction.answers import REVIEW, UNKNOWN, Answers
from prediction.app import default_answers, package_path, write_app

pytestmark = pytest.mark.slow

COUNT = 80  # photographs that are named here and there
MOST_DIFFERENT = 1  # names of these, where two are as probable
CLOSE, MOST_FAR = 0.02, 0.05  # probabilities of the others, but for a share of them

LOADED = "document.getElementById('loading').hidden"
STATUS = "return document.getElementById('status').textContent"


class App:
    """An exported network, and its app below a path of a web server."""

    def __init__(self, folder: Path, checkpoint: Path):
        self.folder = folder / "app"
        self.photographs = folder / "photographs"
        self.photographs.mkdir(parents=True)
        self.onnx = folder / "flowers.onnx"
        model_utils.export(self.onnx, checkpoint)
        self.network = onnx_runtime.load(self.onnx)
        self.info = self.network.info
        self.export(default_answers(self.info, self.info.names))
        self.server = FolderServer(folder)
        self.url = self.server.url("app/")

    def export(self, answers: Answers) -> None:
        self.answers = answers
        (self.folder / "blank.html").unlink(missing_ok=True)
        write_app(self.folder, self.onnx.read_bytes(), self.answers)
        # A page beside the app's own, for its modules.
        (self.folder / "blank.html").write_text("<!doctype html><title>blank</title>")


def make_app(tmp_path_factory, checkpoint: Path) -> App:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    if not find_browser():
        pytest.skip("there is no Chromium")
    if not package_path().exists():
        pytest.skip(f"{package_path()} is not there")
    return App(tmp_path_factory.mktemp("served"), checkpoint)


@pytest.fixture(scope="module")
def small_app(tmp_path_factory, checkpoint):
    """The app of a network that knows drawn flowers."""
    app = make_app(tmp_path_factory, checkpoint)
    with app.server:
        yield app


@pytest.fixture
def browser():
    with Browser(find_browser()) as browser:
        yield browser


@pytest.fixture
def flower(tmp_path) -> Path:
    path = tmp_path / "a flower.jpg"
    draw_flower(FLOWERS[0], np.random.default_rng(0)).save(path)
    return path


def choose(page: Page, *paths: Path) -> None:
    """Choose photographs as a user does."""
    root = page.call("DOM.getDocument")["root"]["nodeId"]
    node = page.call("DOM.querySelector", nodeId=root, selector="#choose-input")["nodeId"]
    page.call("DOM.setFileInputFiles", files=[str(path) for path in paths], nodeId=node)


def headlines(page: Page, count: int = 1) -> list[str]:
    """Return the headlines of the answers, as soon as there are `count`."""
    page.wait(f"document.querySelectorAll('#cards h3').length === {count}")
    return page.run("return [...document.querySelectorAll('#cards h3')].map((h) => h.textContent)")


# --- What it names --------------------------------------------------------------------


def draw_variants(folder: Path) -> list[Path]:
    """Draw flowers as files of all kinds that cameras and tools write."""
    rng = np.random.default_rng(1)
    for i in range(COUNT):
        image = draw_flower(FLOWERS[i % 4], rng)
        scale = float(rng.choice([0.3, 0.9, 1, 2.3, 5, 9.1]))
        image = image.resize([round(scale * side) for side in image.size])
        exif = Image.Exif()
        exif[0x0112] = int(rng.integers(0, 10))  # 0 and 9 are nothing
        kind, path = i % 8, folder / str(i)
        if kind < 3:
            image.save(path, "JPEG", quality=90, subsampling=kind, exif=exif)
        elif kind == 3:
            image.convert("L").save(path, "JPEG", quality=80, progressive=True, exif=exif)
        elif kind == 4:
            alpha = image.convert("L").point(lambda value: 255 - value)
            image.putalpha(alpha)
            image.save(path, "PNG", compress_level=1)
        elif kind == 5:
            image.convert("LA" if i % 16 == 5 else "P").save(path, "PNG", compress_level=1)
        elif kind == 6:
            image.save(path, "PNG", compress_level=1, exif=exif)
        else:
            image.save(path, "WEBP", lossless=True, method=0, exif=exif)
    return [folder / str(i) for i in range(COUNT)]


ASK_ALL = """
const { decide } = await import("./answers.js");
const { startNetwork } = await import("./network.js");
const network = startNetwork();
await network.ready;
const known = await network.known;
const found = [];
for (let i = 0; i < count; i++) {
  const file = await (await fetch(`../photographs/${i}`)).blob();
  const { probabilities, familiarity } = await network.ask(file);
  found.push(decide(probabilities, familiarity, known));
}
return found;
"""


def compare(app: App, browser: Browser, paths: list[Path]) -> None:
    """Check that the page names photographs as predict.py does."""
    page = browser.open(app.url + "blank.html")
    found = page.run(f"const count = {len(paths)};" + ASK_ALL)
    different, far = [], []
    for path, here in zip(paths, found, strict=True):
        result = app.network.predict(load_image(path, app.info.preprocessing))
        there = app.answers.record(str(path), result)
        best = here["guesses"][0]
        if best["category"] != there.guesses[0].category:
            different.append(path)
        elif abs(best["probability"] - there.guesses[0].probability) > CLOSE:
            far.append((path, best["probability"], there.guesses[0].probability))
    assert len(different) <= MOST_DIFFERENT, different
    assert len(far) <= MOST_FAR * len(paths), far


def test_drawn_photographs_of_all_kinds(small_app, browser):
    compare(small_app, browser, draw_variants(small_app.photographs))


PIXELS = """
const { decode, toPixels } = await import("./pixels.js");
const file = new Blob([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))]);
const { bitmap, jpeg } = await decode(file);
return [...toPixels(bitmap, preprocessing, jpeg)];
"""


KEPT_KEYS = ("resize", "crop", "interpolation")


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize(
    ("size", "resize", "crop"),
    [
        ((250, 300), 250, 224),  # nothing to scale
        ((300, 251), 250, 225),  # a crop that begins between two pixels
        ((40, 30), 64, 64),
        ((1001, 700), 36, 32),  # shrunk by a whole factor first
        ((333, 90), 50, 50),
    ],
)
def test_pixels_are_those_of_pillow(
    small_app, browser, tmp_path, size, resize, crop, interpolation
):
    rng = np.random.default_rng(0)
    image = draw_flower(FLOWERS[1], rng).resize(size)
    path = tmp_path / "picture.png"
    image.save(path)
    wanted = small_app.info.preprocessing._replace(
        resize=resize, crop=crop, interpolation=interpolation
    )
    page = browser.open(small_app.url + "blank.html")
    preprocessing = json.dumps({"resize": resize, "crop": crop, "interpolation": interpolation})
    data = base64.b64encode(path.read_bytes()).decode()
    code = f"const data = '{data}', preprocessing = {preprocessing};" + PIXELS
    found = np.array(page.run(code)).reshape(crop, crop, 3)
    assert np.array_equal(found, load_image(path, wanted))


@pytest.mark.parametrize("extension", ["jpg", "png", "webp"])
def test_colours_follow_the_profile_as_in_predict_py(small_app, browser, tmp_path, extension):
    profile, path = rgb_profile(DISPLAY_P3), tmp_path / f"picture.{extension}"
    image = draw_flower(FLOWERS[1], np.random.default_rng(0))
    options = {"lossless": True} if extension == "webp" else {"quality": 95}
    look_alike(image, profile).save(path, icc_profile=profile, **options)
    preprocessing = small_app.info.preprocessing
    page = browser.open(small_app.url + "blank.html")
    wanted = json.dumps({key: getattr(preprocessing, key) for key in KEPT_KEYS})
    data = base64.b64encode(path.read_bytes()).decode()
    found = page.run(f"const data = '{data}', preprocessing = {wanted};" + PIXELS)
    crop = preprocessing.crop
    difference = np.array(found).reshape(crop, crop, 3) - load_image(path, preprocessing).astype(
        int
    )
    assert abs(difference).mean() < 1


def test_answers_are_those_of_predict_py(small_app, browser):
    rng = np.random.default_rng(0)
    limits = [(-0.5, None), (0.4, None), (0.4, 0.6), (-np.inf, 0.6), (0.5, 0.99999)]
    answers = Answers(small_app.info, small_app.info.names)
    page = browser.open(small_app.url + "blank.html")
    for lowest, promise in limits:
        answers.lowest, answers.least = lowest, max(lowest, 0.45)
        answers.threshold = promise
        known = {
            "names": answers.names,
            "categories": small_app.info.categories,
            "lowest": None if lowest == -np.inf else lowest,
            "promise": promise and {"lowest": promise, "least": answers.least},
        }
        shares = rng.dirichlet(np.full(len(answers.names), 0.3), 100).astype(np.float32)
        shares[:3] = [[0.25, 0.25, 0.25, 0.25], [0.6, 0.4, 0, 0], [0, 0, 0, 1]]
        ood_scores = rng.uniform(0.3, 0.7, 100).astype(np.float32)
        code = f"""
            const {{ decide }} = await import("./answers.js");
            const rows = {shares.tolist()}, familiar = {ood_scores.tolist()};
            const known = {json.dumps(known)};
            return rows.map((row, i) => decide(new Float32Array(row), familiar[i], known));
        """
        for row, value, found in zip(shares, ood_scores, page.run(code), strict=True):
            record = answers.record("a.jpg", Prediction(row, float(value)))
            kind = "name" if record.is_named else record.answer
            assert kind in ("name", UNKNOWN, REVIEW)
            assert found["kind"] == kind
            assert [g["category"] for g in found["guesses"]] == [g.category for g in record.guesses]


# --- What it shows and says -----------------------------------------------------------


def test_each_photograph_gets_a_card(small_app, browser, flower, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(flower.read_bytes()[:200])
    page = browser.open(small_app.url)
    page.wait(LOADED)
    assert page.run(STATUS) == "Ready. I know 4 kinds of flowers."
    choose(page, flower, broken)
    page.wait("document.getElementById('said').textContent.startsWith('broken.jpg')")
    result = small_app.network.predict(load_image(flower, small_app.info.preprocessing))
    record = small_app.answers.record("", result)
    [said] = headlines(page)
    text = page.run("return document.getElementById('cards').innerText")
    assert "broken.jpg: this is no picture that your browser can open." in text
    best = record.guesses[0]
    assert best.name in said and f"{best.name}\n{best.probability:.1%}"[:-1] in text
    assert not page.complaints()


FOCUS = """
const element = document.activeElement;
const seen = element.matches("input") ? element.parentElement : element;
return [element.id || element.textContent, getComputedStyle(seen).outlineStyle];
"""


def test_all_is_within_reach_of_the_keyboard(small_app, browser):
    page = browser.open(small_app.url)
    page.wait(LOADED)
    reached = []
    for _ in range(3):
        for kind in ("keyDown", "keyUp"):
            key = {"key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}
            page.call("Input.dispatchKeyEvent", type=kind, **key)
        reached.append(page.run(FOCUS))
    assert reached == [
        ["camera-button", "solid"],
        ["choose-input", "solid"],
        ["What I know", "solid"],
    ]


@pytest.mark.parametrize("width", [320, 360, 1200])
def test_nothing_is_wider_than_the_window(small_app, browser, flower, width):
    page = browser.open(small_app.url, width, 740)
    choose(page, flower)
    headlines(page)
    assert page.run("return document.documentElement.scrollWidth") <= width


def test_the_camera_shows_what_the_network_sees_on_a_turned_phone(small_app, browser):
    for size in ((360, 740), (740, 360), (1280, 600)):
        page = browser.open(small_app.url, *size)
        shape = page.run("""
            document.getElementById("live").hidden = false;
            const { width, height } = document.querySelector("#live .view").getBoundingClientRect();
            return [width, height];
        """)
        assert abs(shape[0] - shape[1]) < 1


def test_a_new_version_in_one_tab_leaves_the_answers_in_another(
    tmp_path_factory, checkpoint, browser, flower
):
    app = make_app(tmp_path_factory, checkpoint)
    with app.server:
        first = browser.open(app.url)
        first.wait(LOADED)
        first.wait(KEPT)
        choose(first, flower)
        headlines(first)
        app.export(Answers(app.info, app.info.names))
        second = browser.open(app.url)  # idle, so that it takes the new version at once
        for page in (first, second):
            page.wait("performance.getEntriesByType('navigation')[0].type === 'reload'")
            assert len(headlines(page)) == 1
        choose(first, flower)  # and it still names
        headlines(first, 2)


def test_without_https_a_photograph_is_taken(small_app, flower):
    rule = "--host-resolver-rules=MAP flowers.test 127.0.0.1"
    with Browser(find_browser(), rule) as browser:
        page = browser.open(small_app.url.replace("127.0.0.1", "flowers.test"))
        page.wait(LOADED)
        assert not page.run("return isSecureContext")
        assert page.run("return document.getElementById('camera-button').hidden")
        assert not page.run("return document.getElementById('take').hidden")
        choose(page, flower)
        assert len(headlines(page)) == 1
        assert page.run("return document.getElementById('offline').hidden")
        assert not page.complaints()


def write_video(path: Path, picture: Path) -> None:
    """Write what a camera sees that looks at a picture (https://wiki.multimedia.cx: YUV4MPEG2)."""
    image = Image.open(picture).resize((640, 480)).convert("YCbCr")
    brightness, *colours = (np.asarray(part) for part in image.split())
    frame = brightness.tobytes() + b"".join(part[::2, ::2].tobytes() for part in colours)
    path.write_bytes(b"YUV4MPEG2 W640 H480 F30:1 Ip A1:1 C420jpeg\n" + 2 * (b"FRAME\n" + frame))


def test_the_camera_is_watched_until_it_is_stopped(small_app, flower, tmp_path):
    write_video(tmp_path / "video.y4m", flower)
    flags = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    flags += [f"--use-file-for-fake-video-capture={tmp_path / 'video.y4m'}"]
    with Browser(find_browser(), *flags) as browser:
        page = browser.open(small_app.url)
        page.wait("document.getElementById('said').textContent")  # it may start at once
        said, shown = page.run("""
            const shown = document.querySelector("#live-answer h3").textContent;
            return [document.getElementById("said").textContent, shown];
        """)
        assert said.startswith(f"{shown}.")
        page.run("globalThis.stream = document.getElementById('video').srcObject")
        assert page.run("return stream.active")
        page.run("document.getElementById('shutter').click()")
        [taken] = headlines(page)
        assert taken == shown
        page.run("document.getElementById('stop').click()")
        assert page.run("return document.getElementById('live').hidden")
        assert not page.run("return stream.active")
        assert not page.complaints()


def test_a_camera_that_is_not_there_is_a_sentence(small_app, browser):
    page = browser.open(small_app.url)
    page.wait(LOADED)
    page.run("document.getElementById('camera-button').click()")
    page.wait("!document.getElementById('take').hidden")
    assert page.run(STATUS) == "This device has no camera: choose a photograph instead."
    assert page.run("return document.getElementById('live').hidden")


# --- What it keeps --------------------------------------------------------------------

KEPT = "navigator.serviceWorker?.controller?.state === 'activated'"


def test_it_works_without_a_connection_and_asks_nobody_else(
    tmp_path_factory, checkpoint, browser, flower
):
    app = make_app(tmp_path_factory, checkpoint)
    with app.server:
        page = browser.open(app.url)
        page.wait(LOADED)
        page.wait(KEPT)
        page.wait("!document.getElementById('offline').hidden")
        for large in ("flowers.onnx", "onnxruntime.bin"):
            assert app.server.asked.count(f"/app/{large}") == 1
    page.go(app.url + "index.html")
    page.wait(LOADED)
    choose(page, flower)
    assert len(headlines(page)) == 1
    page.go(app.url)
    assert len(headlines(page)) == 1  # the history
    asked = [
        event["params"]["request"]["url"]
        for event in browser.events
        if event.get("method") == "Network.requestWillBeSent"
    ]
    assert asked and all(url.startswith(app.url) for url in asked)
    assert not page.complaints()


def test_a_new_version_reaches_who_has_the_old_one(tmp_path_factory, checkpoint, browser, flower):
    app = make_app(tmp_path_factory, checkpoint)

    def wait_for_it() -> None:
        """Wait until the files that were exported last are those that are kept."""
        text = (app.folder / "sw.js").read_text()
        digest = re.search(r'DIGEST = "(\w+)"', text)[1]
        page.wait(
            f"caches.keys().then((keys) => keys.length === 1 && keys[0].endsWith('{digest}'))"
        )
        page.wait("performance.getEntriesByType('navigation')[0].type === 'reload'")
        page.wait(LOADED)
        known = json.loads((app.folder / "flowers.json").read_text())
        assert page.run("return await (await fetch('flowers.json')).json()") == known

    with app.server:
        page = browser.open(app.url)
        page.wait(LOADED)
        page.wait(KEPT)
        app.export(Answers(app.info, app.info.names))
        before = len(app.server.asked)
        page.go(app.url)  # is the old one, which finds the new one, which takes its place
        wait_for_it()
        assert {*app.server.asked[before:]} == {"/app/sw.js", "/app/flowers.json"}
        choose(page, flower)
        headlines(page)
        app.export(default_answers(app.info, app.info.names))
        page.run("await (await navigator.serviceWorker.getRegistration()).update()")
        wait_for_it()
        headlines(page)


def test_a_corrected_photograph_is_saved_as_train_py_reads_it(small_app, flower, tmp_path):
    with Browser(find_browser()) as browser:
        page = browser.open(small_app.url)
        folder = tmp_path / "downloads"
        browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
        page.wait(LOADED)
        assert page.run("return document.getElementById('history').hidden")
        choose(page, flower, flower)
        headlines(page, 2)
        names = sorted(small_app.info.names)
        page.run(f"""
            const [first, second] = document.querySelectorAll("#cards article");
            first.querySelector(".right").click();
            second.querySelector(".no").click();
            second.querySelector("input").value = " {names[-1].upper()} ";
            second.querySelector("form").requestSubmit();
        """)
        page.wait("document.getElementById('save').textContent === 'Save the 2 you have named'")
        page.go(small_app.url)  # what was said is kept
        headlines(page, 2)
        assert headlines(page, 2)[1] == names[-1]
        page.wait("!document.getElementById('save').hidden")
        page.run("document.getElementById('save').click()")
        deadline = time.monotonic() + 20
        while not (folder / "flowers.zip").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        page.run("document.querySelector('#cards .right').click()")  # taken back
        page.wait("document.getElementById('save').textContent === 'Save the 1 you have named'")
        page.run("document.querySelector('#cards .remove').click()")
        assert headlines(page, 1) == [names[-1]]
        choose(page, flower, flower, flower)
        page.run("globalThis.confirm = () => true; document.getElementById('clear').click()")
        page.wait("document.getElementById('history').hidden")
        page.go(small_app.url)  # nothing that was being named comes back
        page.wait(LOADED)
        assert page.run("return document.getElementById('history').hidden")
        assert not page.complaints()
    with zipfile.ZipFile(folder / "flowers.zip") as packed:
        assert packed.testzip() is None
        files = packed.namelist()
        category = small_app.info.categories[small_app.info.names.index(names[-1])]
        assert files[1].startswith(f"train/{category}/app-") and files[1].endswith(".jpg")
        for file in files:
            with packed.open(file) as packed_one, Image.open(packed_one) as one:
                with Image.open(flower) as whole:
                    assert one.size == whole.size


def test_a_part_of_a_photograph_is_looked_at_and_then_all_of_it_again(small_app, browser, flower):
    page = browser.open(small_app.url)
    page.wait(LOADED)
    choose(page, flower)
    headlines(page)
    shown = "return [document.querySelector('#cards canvas').width, \
        document.querySelector('#cards .answer').innerText]"
    whole = page.run(shown)
    page.run("document.querySelector('#cards .part').click()")
    page.wait("document.querySelector('#cards .part').getAttribute('aria-pressed') === 'true'")
    page.wait(f"document.querySelector('#cards canvas').width < {whole[0]}")
    part = page.run(shown)
    page.go(small_app.url)  # what is shown is kept
    headlines(page, 1)
    assert page.run(shown) == part
    page.run("document.querySelector('#cards canvas').click()")
    page.wait(f"document.querySelector('#cards canvas').width === {whole[0]}")
    assert page.run(shown) == whole
    assert not page.complaints()


def test_a_new_name_is_one_category_however_it_is_spelt(small_app, browser, flower):
    page = browser.open(small_app.url)
    page.wait(LOADED)
    choose(page, flower, flower)
    headlines(page, 2)
    for i, name in enumerate(("Tulip", "tulip ")):
        page.run(f"""
            const card = document.querySelectorAll("#cards article")[{i}];
            card.querySelector(".no").click();
            card.querySelector("input").value = "{name}";
            card.querySelector("form").requestSubmit();
        """)
        page.wait(f"document.getElementById('save').textContent.includes('the {i + 1} you')")
    assert headlines(page, 2) == ["Tulip", "Tulip"]


def test_a_kind_is_found_among_those_that_are_known(small_app, browser):
    page = browser.open(small_app.url)
    page.wait(LOADED)
    wanted = small_app.info.names[2]
    shown = page.run(f"""
        const field = document.getElementById("find");
        field.value = " {wanted.upper()}";
        field.dispatchEvent(new Event("input"));
        const items = document.querySelectorAll("#about li:not([hidden])");
        return [...items].map((item) => item.textContent);
    """)
    assert shown == [name for name in sorted(small_app.info.names) if wanted in name]


WORDS = """
const { advice, named, phrase } = await import("./words.js");
const guesses = probabilities.map((probability, i) => ({ name: "abc"[i], probability }));
const answer = { kind, guesses, of: 3 };
return [phrase(answer), named(answer).length];
"""


@pytest.mark.parametrize(
    ("kind", "probabilities", "words"),
    [
        ("name", [0.5, 0.4], ["a", 1]),
        ("review", [0.95, 0.04], ["probably a", 1]),
        ("review", [0.5, 0.4], ["a or b", 2]),
        ("review", [0.5, 0.2], ["perhaps a", 1]),
        ("unknown", [0.4, 0.1], ["not one of the 3 flowers I know", 1]),
        ("unknown", [1.0], ["probably a", 1]),
    ],
)
def test_answers_are_said_in_words(small_app, browser, kind, probabilities, words):
    page = browser.open(small_app.url + "blank.html")
    code = f"const [kind, probabilities] = {json.dumps([kind, probabilities])};" + WORDS
    assert page.run(code) == words


STEADY = """
const { makeSteady } = await import("./steady.js");
const { phrase } = await import("./words.js");
const known = { names: ["rose", "iris"], categories: ["1", "2"], lowest: null, promise: null };
const steady = makeSteady(known);
const frames = [...pattern].map((best) => {
  const probabilities = new Float32Array(best === "r" ? [0.8, 0.2] : [0.2, 0.8]);
  return phrase(steady({ probabilities, familiarity: 1 }));
});
return frames.map((name) => name[0]).join("");
"""


@pytest.mark.parametrize(
    ("seen", "shown"),
    [
        ("rrrirrrirrr", "rrrrrrrrrrr"),
        ("rirrirrirri", "rrrrrrrrrrr"),
        ("rrrrriiiiiiiiii", "rrrrrrrrrrrriii"),
    ],
)
def test_the_name_does_not_flicker(small_app, browser, seen, shown):
    page = browser.open(small_app.url + "blank.html")
    found = page.run(f"const pattern = '{seen}';" + STEADY)
    assert found == shown


@pytest.mark.parametrize(
    ("kind", "shares", "words"),
    [
        ("name", [0.97, 0.02, 0.01], "rose"),
        ("unknown", [0.97, 0.02, 0.01], "probably rose"),
        ("review", [0.55, 0.4, 0.05], "rose or iris"),
        ("review", [0.4, 0.3, 0.3], "perhaps rose"),
        ("unknown", [0.6, 0.1, 0.3], "perhaps rose"),
        ("unknown", [0.4, 0.3, 0.3], "not one of the 3 flowers I know"),
    ],
)
def test_answers_are_in_words_for_people(small_app, browser, kind, shares, words):
    page = browser.open(small_app.url + "blank.html")
    guesses = [
        {"name": name, "probability": share}
        for name, share in zip(("rose", "iris", "lily"), shares, strict=True)
    ]
    answer = json.dumps({"kind": kind, "guesses": guesses, "of": 3})
    code = f'const {{ phrase }} = await import("./words.js"); return phrase({answer});'
    assert page.run(code) == words

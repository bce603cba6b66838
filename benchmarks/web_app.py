"""How quick an app is in a browser without a window: first name, camera, photographs of phones.

    python predict.py --export app checkpoint.pth
    python benchmarks/web_app.py app
    python benchmarks/web_app.py app --film flowers/valid --mbit 9 4 1.6

Each round begins with a new browser that has kept nothing. The camera is Chromium's own, which
shows a moving pattern. It needs Chromium, and no photographs: flowers are drawn. A film shows
twelve photographs of a folder, each for three seconds in an unsteady hand: how often the name
changes, and whether anything on the page moves. `--mbit` says how long a first visit takes over a
slower network, in megabits a second, and what it downloads.
"""

import base64
import io
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from browser import Browser, FolderServer, Page, find_browser
from common import machine, make_parser
from PIL import Image, ImageEnhance, ImageOps

from images.drawn import FLOWERS, draw_flower

SIZES = {"drawn": 1, "12 megapixels": 12, "48 megapixels": 24}  # times 250 x 250..340 pixels

READY = "document.getElementById('loading').hidden"

# Paste a photograph, and wait for its card.
NAME = """
const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
const event = new Event("paste");
event.clipboardData = { files: [new File([bytes], "flower.jpg")] };
const cards = document.getElementById("cards");
const before = cards.querySelectorAll("h3").length;
const start = performance.now();
dispatchEvent(event);
await new Promise((resolve) => {
  const look = () => cards.querySelectorAll("h3").length > before && resolve();
  new MutationObserver(look).observe(cards, { childList: true, subtree: true });
});
return (performance.now() - start) / 1000;
"""

# Start the camera, and count the answers of some seconds after the first one.
WATCH = """
const answers = [];
const live = document.getElementById("live-answer");
const note = () => answers.push(performance.now());
new MutationObserver(note).observe(live, { attributes: true, attributeFilter: ["class"] });
document.getElementById("camera-button").click(); // it starts itself where it is allowed
while (!answers.length) await new Promise((resolve) => setTimeout(resolve, 10));
await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
document.getElementById("stop").click();
return (answers.length - 1) / (answers.at(-1) - answers[0]) * 1000;
"""


# Watch the camera: how often the headline changes, and how far things move that nobody touched.
FILM = """
const live = document.getElementById("live-answer");
let [answers, changes, shift, before] = [0, 0, 0, null];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) shift += entry.value;
}).observe({ type: "layout-shift" });
new MutationObserver(() => {
  answers += 1;
  const said = live.querySelector("h2, h3")?.textContent;
  if (before !== null && said !== before) changes += 1;
  before = said;
}).observe(live, { attributes: true, attributeFilter: ["class"] });
await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
return [answers, changes, shift];
"""

START = """
if (document.getElementById("live").hidden) document.getElementById("camera-button").click();
"""

SHOTS, SHOT, FRAMES = 12, 3, 10  # photographs of a film, seconds of each, frames a second


def film(folder: Path, path: Path) -> None:
    """Write a film of photographs as Chromium's camera shows it (wiki.multimedia.cx: YUV4MPEG2)."""
    rng = np.random.default_rng(0)
    files = sorted(folder.rglob("*.jpg"))
    chosen = [files[i] for i in sorted(rng.choice(len(files), SHOTS, replace=False))]
    with open(path, "wb") as target:
        target.write(b"YUV4MPEG2 W640 H480 F%d:1 Ip A1:1 C420jpeg\n" % FRAMES)
        for file in chosen:
            image = ImageOps.fit(Image.open(file).convert("RGB"), (720, 540))
            place, light = np.array([40.0, 30.0]), 1.0
            for _ in range(SHOT * FRAMES):
                place = np.clip(place + rng.normal(0, 5, 2), 0, (80, 60))
                light = np.clip(light + rng.normal(0, 0.04), 0.8, 1.2)
                left, top = place.round().astype(int).tolist()
                seen = image.crop((left, top, left + 640, top + 480))
                seen = ImageEnhance.Brightness(seen).enhance(float(light)).convert("YCbCr")
                brightness, *colours = map(np.asarray, seen.split())
                target.write(b"FRAME\n" + brightness.tobytes())
                target.write(b"".join(part[::2, ::2].tobytes() for part in colours))


def watch_film(app: Path, program: str, folder: Path) -> None:
    """Print how the camera's answers come and change on a film."""
    with tempfile.TemporaryDirectory() as place, FolderServer(app) as server:
        path = Path(place, "film.y4m")
        film(folder, path)
        flags = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        with Browser(program, *flags, f"--use-file-for-fake-video-capture={path}") as browser:
            page = browser.open(server.url())
            page.wait(READY)
            page.run(START)
            page.wait("document.getElementById('live-answer').innerText")
            seconds = SHOTS * SHOT
            answers, changes, shift = page.run(f"const seconds = {seconds};" + FILM)
    print(
        f"a film of {SHOTS} photographs in {seconds} s: {answers / seconds:.1f} answers a second, "
        f"{60 * changes / seconds:.0f} changes of the name a minute, layout shift {shift:.3f}"
    )


def visit(app: Path, program: str, mbit: float) -> None:
    """Print how long a first visit takes over a slow network."""
    with FolderServer(app, mbit) as server, Browser(program) as browser:
        page = browser.open(server.url())
        page.wait(READY, 300)
        ready = page.run("return performance.now()") / 1000
        time.sleep(10)  # while the app is kept for the time without a connection
        sent = server.sent / 1e6
    print(f"{mbit:g} Mbit/s: ready after {ready:.1f} s; {sent:.1f} MB sent")


def draw(scale: int) -> str:
    """Draw a flower, as a JPEG in base64."""
    image = draw_flower(FLOWERS[0], np.random.default_rng(0))
    file = io.BytesIO()
    image.resize((image.width * scale, image.height * scale)).save(file, "JPEG", quality=90)
    return base64.b64encode(file.getvalue()).decode()


def name(page: Page, photograph: str) -> float:
    """Have a photograph named, and return the seconds."""
    return page.run(f"const data = '{photograph}';" + NAME)


def say(what: str, values: list[float], unit: str) -> None:
    middle = statistics.median(values)
    spread = f"{min(values):.2f} to {max(values):.2f}"
    print(f"{what}: {middle:.2f} {unit} (median of {len(values)}; {spread})")


def main() -> int:
    parser = make_parser(__doc__, "app")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--film", type=Path, metavar="FOLDER")
    parser.add_argument("--mbit", type=float, nargs="*", default=[])
    parser.add_argument("--seconds", type=float, default=5, help="of the camera, in each round")
    args = parser.parse_args()
    program = find_browser()
    if program is None:
        print("there is no Chromium", file=sys.stderr)
        return 2
    photographs = {what: draw(scale) for what, scale in SIZES.items()}
    flags = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    loads, firsts, frames = [], [], []
    times: dict[str, list[float]] = {what: [] for what in photographs}
    with FolderServer(Path(args.app)) as server:
        for _ in range(args.rounds):
            with Browser(program, *flags) as browser:
                page = browser.open(server.url())
                page.wait(READY)
                loads.append(page.run("return performance.now()") / 1000)
                firsts.append(name(page, photographs["drawn"]))
                for what, photograph in photographs.items():
                    times[what].append(name(page, photograph))
                frames.append(page.run(f"const seconds = {args.seconds};" + WATCH))
                version = browser.call("Browser.getVersion")["product"]
    print(f"{machine()}; {version}")
    say("until the network is loaded, from this machine", loads, "s")
    say("first photograph after that", firsts, "s")
    for what, values in times.items():
        say(f"another photograph, {what}", values, "s")
    say("camera", frames, "frames a second")
    if args.film:
        watch_film(Path(args.app), program, args.film)
    for mbit in args.mbit:
        visit(Path(args.app), program, mbit)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""How quick an app is in a browser without a window: first name, camera, photographs of phones.

    python predict.py --export app checkpoint.pth
    python benchmarks/web_app.py app

Each round begins with a new browser that has kept nothing. The camera is Chromium's own, which
shows a moving pattern. It needs Chromium, and no photographs: flowers are drawn.
"""

import base64
import io
import statistics
import sys
from pathlib import Path

import numpy as np
from browser import Browser, FolderServer, Page, find_browser
from common import machine, make_parser

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
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Ways to name a folder of photographs: photographs a second, cold start, memory, other names.

    python benchmarks/engines.py checkpoint.pth flowers.onnx PHOTOGRAPHS

The first three rows are this project's; OpenVINO's takes `pip install openvino`. The others are the
same network without weights of ours by timm and by the pipeline of Hugging Face's transformers
(`pip install timm transformers`), one at a time and in batches. All decode the photographs.
ATEN_CPU_CAPABILITY=avx2 and ONEDNN_MAX_CPU_ISA=AVX2 in the environment keep PyTorch and OpenVINO
from AVX-512 and bfloat16; ONNX Runtime has no such switch. They do not imitate a processor without
bfloat16 for a checkpoint: it is still computed in that, emulated, at a fortieth of the speed.
"""

import statistics
import tempfile
from pathlib import Path

from common import machine, make_parser, run
from PIL import Image

import data_utils
from running.environment import require

# Each names the photographs of sys.argv[2:] after one for warming up, and prints their number a
# second, then the MiB of memory, and the names where it knows any.
PEAK = """
def peak():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
"""
OURS = """
import sys, time
from functools import partial
if "{engine}" == "ONNX Runtime":
    sys.modules["openvino"] = None
import predict
from images.decode import EVALUATION_BATCH
from prediction.inputs import read_each
from running.console import Console
from running.threads import default_workers, map_ahead, prepare_threads
prepare_threads()
network = predict.load_network(sys.argv[1], False, EVALUATION_BATCH, Console(""))
if "{engine}" not in network.engine:
    sys.exit(network.engine + " computes it")
read = partial(read_each, preprocessing=network.info.preprocessing)
def name(paths):
    inputs = ((path, None) for path in paths)
    source = map_ahead(read, inputs, default_workers(), 3 * EVALUATION_BATCH)
    return [found.probabilities.argmax() for _, found in network.predict_each(source)]
paths = sys.argv[2:]
name(paths[:1])
started = time.perf_counter()
names = name(paths)
print(len(paths) / (time.perf_counter() - started), peak(), *names)
"""
TIMM = """
import sys, time, timm, torch
from PIL import Image
model = timm.create_model("tf_efficientnet_lite0", num_classes=102).eval()
config = timm.data.resolve_data_config(model=model)
transform = timm.data.create_transform(**config)
def name(paths):
    images = torch.stack([transform(Image.open(path).convert("RGB")) for path in paths])
    with torch.inference_mode():
        return model(images).softmax(1).argmax(1)
paths = sys.argv[2:]
name(paths[:1])
started = time.perf_counter()
for i in range(0, len(paths), {batch}):
    name(paths[i : i + {batch}])
print(len(paths) / (time.perf_counter() - started), peak())
"""
PIPELINE = """
import sys, time, timm, torch
from transformers import (
    TimmWrapperConfig, TimmWrapperForImageClassification, TimmWrapperImageProcessor, pipeline)
arch = "tf_efficientnet_lite0"
model = TimmWrapperForImageClassification(TimmWrapperConfig(architecture=arch, num_labels=102))
config = timm.get_pretrained_cfg(arch).to_dict()
processor = TimmWrapperImageProcessor(pretrained_cfg=config, architecture=arch)
name = pipeline("image-classification", model=model.eval(), image_processor=processor)
paths = sys.argv[2:]
name(paths[:1])
started = time.perf_counter()
name(paths, batch_size={batch})
print(len(paths) / (time.perf_counter() - started), peak())
"""


def enlarge(paths: list[str], folder: Path) -> list[str]:
    """Save photographs as a camera of 12 megapixels would have: 4032 x 3024 pixels."""
    saved = []
    for number, path in enumerate(paths):
        saved.append(str(folder / f"{number}.jpg"))
        Image.open(path).convert("RGB").resize((4032, 3024)).save(saved[-1], quality=90)
    return saved


def main() -> None:
    parser = make_parser(__doc__, "checkpoint", "exported", "folder")
    parser.add_argument("--count", type=int, default=408, help="photographs as they are")
    parser.add_argument("--large", type=int, default=64, help="photographs of 12 megapixels")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    for package in ("timm", "transformers"):
        require(package, "this benchmark")
    ways = {
        "checkpoint": (OURS.format(engine="PyTorch"), args.checkpoint),
        "exported file, ONNX Runtime": (OURS.format(engine="ONNX Runtime"), args.exported),
        "exported file, OpenVINO": (OURS.format(engine="OpenVINO"), args.exported),
        "timm, one at a time": (TIMM.format(batch=1), ""),
        "timm, batches of 32": (TIMM.format(batch=32), ""),
        "pipeline, one at a time": (PIPELINE.format(batch=1), ""),
        "pipeline, batches of 32": (PIPELINE.format(batch=32), ""),
    }
    photographs = data_utils.find_photographs(args.folder)
    step = max(1, len(photographs) // args.count)
    paths = photographs[::step][: args.count]
    print(f"{machine()}; medians of {args.rounds} rounds, the ways in turns")
    with tempfile.TemporaryDirectory() as folder:
        large = enlarge(paths[: args.large], Path(folder))
        kinds = {"small": paths, "large": large, "cold": paths[:1]}
        rates: dict[tuple[str, str], list[float]] = {}
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        peak: dict[str, float] = {}
        names: dict[str, list[str]] = {}
        for _ in range(args.rounds):
            for way, (code, file) in list(ways.items()):
                for kind, some in kinds.items():
                    try:
                        program = run("-c", PEAK + code, file, *some)
                    except SystemExit as error:  # such as without bfloat16
                        print(f"{way}: {str(error).splitlines()[-1].rpartition(': ')[2]}")
                        del ways[way]
                        break
                    rate, memory, *found = program.out.split()
                    rates.setdefault((way, kind), []).append(float(rate))
                    if kind == "cold":
                        seconds[way].append(program.seconds)
                    elif kind == "small":
                        peak[way], names[way] = float(memory), found
    print(f"n = {len(paths)} of {args.folder}, and {len(large)} of them at 12 megapixels")
    print("| way | a second | of 12 megapixels | cold start | memory | other names |")
    for way in ways:
        small, big = (statistics.median(rates[way, kind]) for kind in ("small", "large"))
        differ = sum(map(str.__ne__, names[way], names["checkpoint"])) if names[way] else "-"
        cold = statistics.median(seconds[way])
        print(
            f"| {way} | {small:.0f} | {big:.1f} | {cold:.2f} s | {peak[way]:.0f} MiB | {differ} |"
        )


if __name__ == "__main__":
    main()

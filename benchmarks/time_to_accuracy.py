"""Seconds until a share of the validation photographs is named rightly: ours, and the usual loop.

    python tests/benchmarks/time_to_accuracy.py flowers

The usual loop has the same network and weights: frozen, its head learned by Adam, the features
computed anew every epoch with a random crop and mirror, by torchvision's transforms and a
DataLoader. It is run in float32 with batches of 64, and again with channels_last and batches of
16. Three heads with three learning rates learn from the same features at once, which costs it
nothing, and the first that is good enough counts.
"""

import argparse
import math
import os
import tempfile
import time

from common import ROOT, machine, run

import data_utils

RATES = (1e-3, 3e-3, 1e-2)
LOOPS = {  # batch size, channels_last
    "float32, batches of 64": (64, False),
    "channels_last, batches of 16": (16, True),
}
KERNELS = {  # batch size, channels_last, bfloat16, BatchNorm folded, freed memory kept
    "float32, batches of 64": (64, False, False, False, False),
    "channels_last, batches of 16": (16, True, False, False, False),
    "+ bfloat16": (16, True, True, False, False),
    "+ BatchNorm folded, batches of 8": (8, True, True, True, False),
    "+ freed memory kept": (8, True, True, True, True),
}


def usual_loop(
    data_dir: str, target: float, epochs: int, limit: float, batch_size: int, channels_last: bool
) -> tuple[float, bool, int]:
    """Return seconds, whether the target was reached, and the epochs that it took."""
    started = time.perf_counter()
    import torch
    from torch.nn import functional as F
    from torch.utils.data import DataLoader, Dataset
    from torchvision import transforms

    import model_utils

    data = data_utils.find_data(data_dir)

    class Photographs(Dataset):
        def __init__(self, split, transform):
            self.paths, self.labels = data.splits[split]
            self.transform = transform

        def __len__(self):
            return len(self.paths)

        def __getitem__(self, index):
            from PIL import Image

            return self.transform(Image.open(self.paths[index]).convert("RGB")), self.labels[index]

    normalise = [transforms.ToTensor(), transforms.Normalize([127 / 255] * 3, [128 / 255] * 3)]
    train = DataLoader(
        Photographs(
            "train",
            transforms.Compose(
                [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), *normalise]
            ),
        ),
        batch_size,
        shuffle=True,
        num_workers=2,
    )
    valid = DataLoader(
        Photographs(
            "valid",
            transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), *normalise]),
        ),
        batch_size,
        num_workers=2,
    )
    spec = model_utils.find_architecture("efficientnet_lite0")
    body = spec.build()
    model_utils.load_weights(body, *spec.imagenet())
    body = body.eval().to(
        memory_format=torch.channels_last if channels_last else torch.contiguous_format
    )
    torch.manual_seed(0)
    heads = [torch.nn.Linear(1280, len(data.categories)) for _ in RATES]
    optimizers = [torch.optim.Adam(head.parameters(), lr) for head, lr in zip(heads, RATES)]

    def features(images):
        if channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            return body(images).flatten(1)

    for epoch in range(1, epochs + 1):
        for images, labels in train:
            seen = features(images)
            for head, optimizer in zip(heads, optimizers):
                optimizer.zero_grad()
                F.cross_entropy(head(seen), labels).backward()
                optimizer.step()
        right = torch.zeros(len(heads))
        for images, labels in valid:
            seen = features(images)
            right += torch.stack([(head(seen).argmax(1) == labels).sum() for head in heads])
        seconds = time.perf_counter() - started
        accuracies = right / len(valid.dataset)
        print(
            f"  epoch {epoch}: "
            + ", ".join(f"lr {lr:g} {accuracy:.2%}" for lr, accuracy in zip(RATES, accuracies))
            + f", {seconds:.0f} s",
            flush=True,
        )
        if accuracies.max() >= target or seconds > limit:
            break
    return seconds, bool(accuracies.max() >= target), epoch


def network_rate(
    batch_size: int, channels_last: bool, half: bool, folded: bool, keep: bool
) -> float:
    """Measure photographs a second of the network alone."""
    import torch

    import model_utils

    if keep:
        model_utils.keep_freed_memory()
    body = model_utils.find_architecture("efficientnet_lite0").build().eval()
    images = torch.rand(batch_size, 3, 224, 224)
    if folded:
        model_utils.fold_batch_norm(body)
    if half:
        body, images = body.bfloat16(), images.bfloat16()
    if channels_last:
        body, images = (x.to(memory_format=torch.channels_last) for x in (body, images))
    with torch.inference_mode():
        for _ in range(3):
            body(images)
        count, started = 0, time.perf_counter()
        while time.perf_counter() - started < 5:
            body(images)
            count += batch_size
    return count / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data_dir")
    parser.add_argument("--target", type=float, default=0.94, help="accuracy on valid")
    parser.add_argument("--epochs", type=int, default=12, help="of the usual loop, at most")
    parser.add_argument("--limit", type=float, default=math.inf, help="seconds of a usual loop")
    parser.add_argument("--loop", choices=LOOPS, help="only this usual loop (default: both)")
    parser.add_argument("--kernels", help=argparse.SUPPRESS)  # one line of the table, in a process
    args = parser.parse_args()
    data_dir = os.path.abspath(args.data_dir)
    if args.kernels:
        print(network_rate(*KERNELS[args.kernels]))
        return

    print(machine())
    data = data_utils.find_data(data_dir)
    print(", ".join(f"{name}: n = {len(split.paths)}" for name, split in data.splits.items()))
    with tempfile.TemporaryDirectory() as folder:
        ours = run(ROOT / "train.py", data_dir, "--epochs", 0, "--save_dir", folder)
    accuracy = float(ours.out.splitlines()[1].split()[3].rstrip("%")) / 100
    print(f"train.py --epochs 0: {accuracy:.2%} on valid, {ours.seconds:.1f} s from start to exit")
    if accuracy < args.target:
        raise SystemExit(f"train.py does not reach {args.target:.2%}")

    print("the network alone, photographs a second:")
    rates = {}
    for name in KERNELS:
        rates[name] = float(run(__file__, data_dir, "--kernels", name).out)
        print(
            f"  {name}: {rates[name]:.0f}, {rates[name] / next(iter(rates.values())):.1f} times",
            flush=True,
        )

    for name in [args.loop] if args.loop else LOOPS:
        batch_size, channels_last = LOOPS[name]
        print(f"the usual loop, {name}:")
        seconds, reached, epochs = usual_loop(
            data_dir, args.target, args.epochs, args.limit, batch_size, channels_last
        )
        more = "" if reached else "> "
        print(
            f"  {args.target:.0%}: {more}{seconds:.0f} s, {more}{seconds / ours.seconds:.1f} times "
            f"train.py's; computing features once instead of {epochs} times is {more}{epochs} of "
            "this",
            flush=True,
        )


if __name__ == "__main__":
    main()

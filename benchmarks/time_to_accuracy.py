"""Seconds until a share of the validation photographs is correct: ours, and the usual loop.

    python benchmarks/time_to_accuracy.py flowers

The usual loop has the same network and weights: frozen, its head learned by Adam, the features
computed anew every epoch with a random crop and mirror, by torchvision's transforms and a
DataLoader. It is run in float32 with batches of 64, and again with channels_last and batches of
16. Three heads with three learning rates learn from the same features at once, which costs it
nothing, and the first that is good enough counts.
"""

import math
import tempfile
import time

import torch
from common import describe_splits, machine, make_parser, read_history, run_train, usual_loader
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

import data_utils
from network.architectures import find_architecture
from network.weights import load_weights
from running.console import no_progress

LEARNING_RATES = (1e-3, 3e-3, 1e-2)
LOOPS = {  # batch size, channels_last
    "float32, batches of 64": (64, False),
    "channels_last, batches of 16": (16, True),
}


def load_splits(data: data_utils.DataSet, batch_size: int) -> tuple[DataLoader, DataLoader]:
    """Load train with random crops and mirrors, and valid with the central crop."""
    from torchvision import transforms  # what has to be imported counts

    normalise = [transforms.ToTensor(), transforms.Normalize([127 / 255] * 3, [128 / 255] * 3)]
    random = [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), *normalise]
    central = [transforms.Resize(256), transforms.CenterCrop(224), *normalise]
    return (
        usual_loader(data.splits["train"], random, batch_size, shuffle=True),
        usual_loader(data.splits["valid"], central, batch_size),
    )


def usual_loop(
    data_dir: str, target: float, epochs: int, limit: float, batch_size: int, channels_last: bool
) -> tuple[float, bool, int]:
    """Return seconds, whether the target was reached, and the epochs that it took."""
    started = time.perf_counter()
    data = data_utils.find_data(data_dir)
    train, valid = load_splits(data, batch_size)
    architecture = find_architecture("efficientnet_lite0")
    assert architecture.imagenet
    body, layout = architecture.build(), memory_format(channels_last)
    load_weights(body, *architecture.imagenet(no_progress))
    body.eval().to(memory_format=layout)
    torch.manual_seed(0)
    heads = [nn.Linear(1280, len(data.categories)) for _ in LEARNING_RATES]
    optimizers = [
        torch.optim.Adam(head.parameters(), lr) for head, lr in zip(heads, LEARNING_RATES)
    ]

    def features(images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return body(images.contiguous(memory_format=layout)).flatten(1)

    for epoch in range(1, epochs + 1):
        for images, labels in train:
            seen = features(images)
            for head, optimizer in zip(heads, optimizers):
                optimizer.zero_grad()
                F.cross_entropy(head(seen), labels).backward()
                optimizer.step()
        correct = torch.zeros(len(heads))
        for images, labels in valid:
            seen = features(images)
            correct += torch.stack([(head(seen).argmax(1) == labels).sum() for head in heads])
        seconds = time.perf_counter() - started
        accuracies = (correct / len(data.splits["valid"].paths)).tolist()
        each = (f"lr {lr:g} {share:.2%}" for lr, share in zip(LEARNING_RATES, accuracies))
        print(f"  epoch {epoch}: {', '.join(each)}, {seconds:.0f} s", flush=True)
        if max(accuracies) >= target or seconds > limit:
            break
    return seconds, max(accuracies) >= target, epoch


def memory_format(channels_last: bool) -> torch.memory_format:
    """Choose the layout of images and weights in memory."""
    return torch.channels_last if channels_last else torch.contiguous_format


def main() -> None:
    parser = make_parser(__doc__, "data_dir")
    parser.add_argument("--target", type=float, default=0.94, help="accuracy on valid")
    parser.add_argument("--epochs", type=int, default=12, help="of the usual loop, at most")
    parser.add_argument("--limit", type=float, default=math.inf, help="seconds of a usual loop")
    parser.add_argument("--loop", choices=LOOPS, help="only this usual loop (default: both)")
    args = parser.parse_args()
    print(machine())
    print(describe_splits(data_utils.find_data(args.data_dir)))
    with tempfile.TemporaryDirectory() as folder:
        ours = run_train(args.data_dir, folder, "--epochs", 0)
        accuracy = float(read_history(folder)[0]["valid_accuracy"])
    print(f"train.py --epochs 0: {accuracy:.2%} on valid, {ours.seconds:.1f} s from start to exit")
    if accuracy < args.target:
        raise SystemExit(f"train.py does not reach {args.target:.2%}")
    for name in [args.loop] if args.loop else LOOPS:
        batch_size, channels_last = LOOPS[name]
        print(f"the usual loop, {name}:")
        seconds, reached, epochs = usual_loop(
            args.data_dir, args.target, args.epochs, args.limit, batch_size, channels_last
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

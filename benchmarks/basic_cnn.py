"""The basic CNN on small pictures: accuracy against seconds, ours and its tutorial's.

    python tests/benchmarks/basic_cnn.py cifar10

Ours is `train.py DATA_DIR --arch cnn`. The other is the network as its tutorial has it (Microsoft,
"Train your image classifier model with PyTorch"): widths 12, 12, 24 and 24, 5 x 5 kernels, Adam
with a rate of 0.001 and a weight decay of 0.0001, batches of 10, pictures as they are. Both see
the same photographs and are judged on the same split.
"""

import argparse
import csv
import tempfile
import time
from pathlib import Path

from common import ROOT, machine, run

import data_utils


def tutorial(data_dir: str, limit: float) -> None:
    """Train as the tutorial does, and print what every epoch comes to."""
    started = time.perf_counter()
    import torch
    from PIL import Image
    from torch import nn
    from torch.utils.data import DataLoader, Dataset
    from torchvision import transforms

    data = data_utils.find_data(data_dir)
    transform = transforms.Compose(
        [
            transforms.Resize((32, 32)),
            transforms.ToTensor(),
            transforms.Normalize((0.5,) * 3, (0.5,) * 3),
        ]
    )

    class Pictures(Dataset):
        def __init__(self, split):
            self.paths, self.labels = data.splits[split]

        def __len__(self):
            return len(self.paths)

        def __getitem__(self, index):
            return transform(Image.open(self.paths[index]).convert("RGB")), self.labels[index]

    torch.manual_seed(0)
    layers = []
    for inputs, outputs in ((3, 12), (12, 12), (12, 24), (24, 24)):
        layers += [nn.Conv2d(inputs, outputs, 5, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
    layers.insert(6, nn.MaxPool2d(2))
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(24 * 10 * 10, len(data.categories)))
    optimizer = torch.optim.Adam(network.parameters(), 0.001, weight_decay=0.0001)
    train, valid = (
        DataLoader(Pictures(split), 10, shuffle=split == "train", num_workers=2)
        for split in ("train", "valid")
    )
    epoch = 0
    while time.perf_counter() - started < limit:
        epoch += 1
        network.train()
        for images, labels in train:
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images), labels).backward()
            optimizer.step()
        network.eval()
        with torch.no_grad():
            right = sum(
                (network(images).argmax(1) == labels).sum().item() for images, labels in valid
            )
        print(
            f"  epoch {epoch}: {right / len(valid.dataset):.2%} after "
            f"{time.perf_counter() - started:.0f} s",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data_dir")
    parser.add_argument(
        "--limit", type=float, default=600, help="seconds of the tutorial's, at least"
    )
    args = parser.parse_args()
    data_dir = str(Path(args.data_dir).resolve())
    print(machine())
    data = data_utils.find_data(data_dir)
    print(", ".join(f"{name}: n = {len(split.paths)}" for name, split in data.splits.items()))
    with tempfile.TemporaryDirectory() as folder:
        ours = run(ROOT / "train.py", data_dir, "--arch", "cnn", "--save_dir", folder)
        with open(Path(folder, "history.csv"), newline="") as file:
            rows = list(csv.DictReader(file))
    print(f"train.py --arch cnn, {ours.seconds:.0f} s from start to exit:")
    seconds = ours.seconds - sum(float(row["seconds"]) for row in rows)  # start, reading and end
    for row in rows:
        seconds += float(row["seconds"])
        print(f"  epoch {row['epoch']}: {float(row['valid_accuracy']):.2%} after {seconds:.0f} s")
    print("the tutorial's:", flush=True)
    tutorial(data_dir, args.limit)


if __name__ == "__main__":
    main()

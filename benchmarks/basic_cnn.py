"""The basic CNN on small pictures: accuracy against seconds, ours and its tutorial's.

    python benchmarks/basic_cnn.py cifar10

Ours is `train.py DATA_DIR --arch cnn`. The other is the network as its tutorial has it (Microsoft,
"Train your image classifier model with PyTorch"): widths 12, 12, 24 and 24, 5 x 5 kernels, Adam
with a learning rate of 0.001 and a weight decay of 0.0001, batches of 10, pictures as they are.
Both see the same photographs and are evaluated on the same split.
"""

import tempfile
import time

import torch
from common import describe_splits, machine, make_parser, read_history, run_train, usual_loader
from torch import nn

import data_utils


def tutorial(data_dir: str, limit: float) -> None:
    """Train as the tutorial does, and print what every epoch comes to."""
    started = time.perf_counter()
    from torchvision import transforms  # what has to be imported counts

    data = data_utils.find_data(data_dir)
    normalise = transforms.Normalize((0.5,) * 3, (0.5,) * 3)
    transform = [transforms.Resize((32, 32)), transforms.ToTensor(), normalise]
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 12), (12, 12), (12, 24), (24, 24)):
        layers += [nn.Conv2d(inputs, outputs, 5, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
    layers.insert(6, nn.MaxPool2d(2))
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(24 * 10 * 10, len(data.categories)))
    optimizer = torch.optim.Adam(network.parameters(), 0.001, weight_decay=0.0001)
    train = usual_loader(data.splits["train"], transform, 10, shuffle=True)
    valid = usual_loader(data.splits["valid"], transform, 10)
    epoch = 0
    while time.perf_counter() - started < limit:
        epoch += 1
        network.train()
        for images, labels in train:
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images), labels).backward()
            optimizer.step()
        network.eval()
        correct = 0
        with torch.no_grad():
            for images, labels in valid:
                correct += (network(images).argmax(1) == labels).sum().item()
        accuracy = correct / len(data.splits["valid"].paths)
        seconds = time.perf_counter() - started
        print(f"  epoch {epoch}: {accuracy:.2%} after {seconds:.0f} s", flush=True)


def main() -> None:
    parser = make_parser(__doc__, "data_dir")
    text = "seconds of the tutorial's, at least"
    parser.add_argument("--limit", type=float, default=600, help=text)
    args = parser.parse_args()
    print(machine())
    print(describe_splits(data_utils.find_data(args.data_dir)))
    with tempfile.TemporaryDirectory() as folder:
        ours = run_train(args.data_dir, folder, "--arch", "cnn")
        rows = read_history(folder)
    print(f"train.py --arch cnn, {ours.seconds:.0f} s from start to exit:")
    seconds = ours.seconds - sum(float(row["seconds"]) for row in rows)  # start, reading and end
    for row in rows:
        seconds += float(row["seconds"])
        print(f"  epoch {row['epoch']}: {float(row['valid_accuracy']):.2%} after {seconds:.0f} s")
    print("the tutorial's:", flush=True)
    tutorial(args.data_dir, args.limit)


if __name__ == "__main__":
    main()

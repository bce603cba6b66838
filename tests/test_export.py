"""Exported networks: the same records as the checkpoint's, without torch; no file is believed."""

import dataclasses
import json
import re

import numpy as np
import pytest
import torch
from conftest import ROOT, save_small
from PIL import Image

import model_utils
import network.export
import predict
from formats import onnx_file
from formats.schema import CalibrationSet
from images.decode import ORIENTATION, load_image
from prediction.answers import find_promises

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def checkpoint(cnn):
    """Of the basic CNN, which is exported in a second; the default network is in slow tests."""
    return cnn / "checkpoint.pth"


@pytest.fixture(scope="module")
def exported(checkpoint, tmp_path_factory):
    """The checkpoint as `predict.py --export --float32` writes it."""
    path = tmp_path_factory.mktemp("exported") / "flowers.onnx"
    assert predict.main(["--export", str(path), str(checkpoint), "--float32"]) == 0
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small exported network, whose categories have odd names."""
    path = tmp_path_factory.mktemp("small") / "small.onnx"
    save_small(
        path.with_suffix(".pth"), ["1", "location", "Blüte"], ["daisy", "\U0001f33b", 'rose \\ "']
    )
    model_utils.export(path, path.with_suffix(".pth"))
    return path


@pytest.fixture(scope="module")
def loaded(checkpoint):
    """The checkpoint's network in float32, as exported networks are, and what it knows."""
    return model_utils.load_checkpoint(checkpoint, precision=torch.float32)


# --- The same as the checkpoint --------------------------------------------------------


def differences(photos, loaded, exported) -> tuple[float, float, bool]:
    """Compare predictions: probabilities, familiarity, and whether all names are the same."""
    model, info = loaded
    ask, same_info, sealed, _ = onnx_file.load(exported)
    assert sealed
    assert np.array_equal(same_info.calibration.quantiles, info.calibration.quantiles)
    assert same_info == dataclasses.replace(info, calibration=same_info.calibration)
    photos = [(path, load_image(path, info.preprocessing)) for path in photos]
    ours = [*onnx_file.predict_each(ask, photos)]
    theirs = [*model_utils.predict_each(model, photos, 8)]
    assert [path for path, _ in ours] == [path for path, _ in theirs]
    ours, theirs = (
        [np.stack(column) for column in zip(*(prediction for _, prediction in each))]
        for each in (ours, theirs)
    )
    return (
        abs(ours[0] - theirs[0]).max(),
        abs(ours[1] - theirs[1]).max(),
        (ours[0].argmax(1) == theirs[0].argmax(1)).all(),
    )


@pytest.mark.parametrize("float32", [True, False])
def test_predictions_are_the_checkpoints(drawn, checkpoint, loaded, tmp_path, float32):
    path = tmp_path / "flowers.onnx"
    model_utils.export(path, checkpoint, float32)
    probabilities, ood_score, same = differences(sorted(drawn.glob("valid/*/*.jpg")), loaded, path)
    assert max(probabilities, ood_score) < (1e-4 if float32 else 1e-2)
    assert same
    assert (path.stat().st_size < 0.6 * checkpoint.stat().st_size) == (not float32)


@pytest.mark.slow
def test_predictions_are_the_checkpoints_on_real_photographs(real_data, trained, tmp_path):
    """Of the default network, whose bundled checkpoint is in half precision already."""
    path, source = tmp_path / "flowers.onnx", ROOT / "assets" / "flowers102.pth"
    model_utils.export(path, source)
    loaded = model_utils.load_checkpoint(source, precision=torch.float32)
    photos = sorted((real_data / "valid").glob("*/*.jpg"))[::8]
    probabilities, ood_score, same = differences(photos, loaded, path)
    assert max(probabilities, ood_score) < 1e-3
    assert same


@pytest.mark.slow
def test_the_bundled_export_is_the_bundled_checkpoint():
    ours = onnx.load_from_string(model_utils.export_bytes(ROOT / "assets" / "flowers102.pth"))
    theirs = onnx.load(ROOT / "assets" / "flowers102.onnx")
    for one, other in zip(ours.metadata_props, theirs.metadata_props, strict=True):
        assert one.key == other.key
        assert one.value == other.value or one.key == "sha256"


OPTIONS = [
    ["--info"],
    ["--top_k", 2],
    ["--format", "csv", "--reject", "--keep", 0.5],
    ["--score"],
    ["--format", "jsonl", "--promise", 0.5],
    ["--shard", "2/3", "--category_names", "names.json"],
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: " ".join(map(str, options)))
def test_every_option_works_alike(
    run_script, drawn, checkpoint, loaded, exported, tmp_path, monkeypatch, options
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(model_utils, "load_checkpoint", lambda path, device: loaded)
    monkeypatch.setattr(predict, "accelerate", lambda network, path: network)
    (tmp_path / "names.json").write_text('{"2": "Klatschmohn", "99": "none"}')
    inputs = [] if "--info" in options else [drawn / "test", "missing.jpg"]
    theirs, ours = (
        run_script("predict", *inputs, path, *options) for path in (checkpoint, exported)
    )
    number = re.compile(r"\b\d+\.\d+")
    err = ours.err.replace(str(exported), str(checkpoint))
    assert (ours.code, err) == (theirs.code, theirs.err)
    engine = r"(?<=computed by: ).*"
    ours, theirs = (re.sub(engine, "", result.out) for result in (ours, theirs))
    assert number.sub("", ours) == number.sub("", theirs) != ""
    assert [*map(float, number.findall(ours))] == pytest.approx(
        [*map(float, number.findall(theirs))], abs=0.011
    )  # percent, as rounded


@pytest.mark.slow
def test_a_photograph_has_the_same_record_in_any_company(run_script, drawn, exported, monkeypatch):
    def records(*inputs, **flags):
        return run_script(
            "predict",
            *inputs,
            exported,
            "--format",
            "jsonl",
            *(word for flag in flags.items() for word in flag),
        ).out

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    many = records(drawn / "valid", **{"--batch_size": 1, "--workers": 1})
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert records(drawn / "valid", **{"--batch_size": 8, "--workers": 3}) == many
    assert "".join(map(records, sorted((drawn / "valid").glob("*/*.jpg")))) == many


# --- The file and its use --------------------------------------------------------------


def test_a_package_that_is_missing_is_named(
    run_script, photo, checkpoint, exported, tmp_path, monkeypatch
):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    run = run_script("predict", photo, exported)
    assert run.code == 2
    assert "needs onnxruntime: pip install onnxruntime\n" in run.err
    run = run_script("predict", "--export", tmp_path / "a.onnx", checkpoint)
    assert run.code == 2
    assert run.err.endswith("--export needs onnx: pip install onnx onnxscript\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--export", "checkpoint.pth", "flowers.onnx"],
        ["--export", "flowers.onnx"],
        ["--export", "flowers.onnx", "a.png", "checkpoint.pth"],
        ["--float32", "a.png", "checkpoint.pth"],
        ["--export", "flowers.onnx", "--info", "checkpoint.pth"],
        ["--export", "flowers.onnx", "--score", "a.png", "checkpoint.pth"],
    ],
)
def test_export_takes_a_checkpoint_and_a_name(run_script, arguments):
    run = run_script("predict", *arguments)
    assert run.code == 2
    assert "--export" in run.err.splitlines()[-1]


def test_an_export_that_fails_leaves_no_file(run_script, checkpoint, tmp_path, monkeypatch):
    (tmp_path / "cut.pth").write_bytes(checkpoint.read_bytes()[:-1000])
    (tmp_path / "folder.onnx").mkdir()
    for target, source in (("a.onnx", tmp_path / "cut.pth"), ("folder.onnx", checkpoint)):
        run = run_script("predict", "--export", tmp_path / target, source)
        assert run.code == 2
        assert run.out == ""
        assert run.err.count("\n") == 1
    monkeypatch.setattr(network.export, "LARGEST_EXPORT", 1000)
    run = run_script("predict", "--export", tmp_path / "a.onnx", checkpoint)
    assert run.code == 2
    assert "cnn does not fit into an ONNX file\n" in run.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.pth", "folder.onnx"]


# --- The lines for applications --------------------------------------------------------


def promising(exported, path):
    """The same network, of which valid shows that names from a probability on are safe."""
    info = onnx_file.load(exported).info
    classes, count = len(info.categories), 400
    # A limit that float32 rounds down: a comparison in float32 would be wrong at the edge.
    for best in np.linspace(0.5, 0.6, 50):
        shares = np.full((count, classes), (1 - best) / (classes - 1))
        shares[:, 0] = best
        valid = CalibrationSet(
            np.log(shares).astype(np.float16), np.zeros(count, int), np.ones(count)
        )
        calibration = info.calibration._replace(valid=valid)
        promises = find_promises(dataclasses.replace(info, calibration=calibration))
        limit, least = next((limit, least) for kept, limit, least, _ in promises if kept == 0.99)
        if np.float32(limit) < limit:
            break
    changed = onnx.load(exported)
    network.export.add_metadata(changed, dataclasses.replace(info, calibration=calibration))
    path.write_bytes(network.export.as_file(changed))
    return {"probability": limit, "familiarity": least}


@pytest.fixture
def answers(run_script, tmp_path, monkeypatch, capsys):
    """Answer image.jpg by the lines and by predict.py; return both: answer and probability."""
    page = (ROOT / "docs" / "export.md").read_text()
    code = page.split("## In an application\n")[1].split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)

    def answers():
        exec(code, {})
        *ours, probability, _ = capsys.readouterr().out.split()
        flags = ["--promise", "0.99", "--format", "jsonl"]
        theirs = json.loads(run_script("predict", "image.jpg", "flowers.onnx", *flags).out)
        return (" ".join(ours), float(probability)), (theirs["label"], theirs["probability"])

    return answers


@pytest.mark.parametrize("size", [(250, 300), (2400, 1777), (700, 1900)])
def test_the_lines_for_applications_compute_what_predict_py_does(
    photo, exported, tmp_path, answers, size
):
    promising(exported, tmp_path / "flowers.onnx")
    turned = Image.Exif()
    turned[ORIENTATION] = 6
    Image.open(photo).resize(size).save(tmp_path / "image.jpg", exif=turned)
    ours, theirs = answers()
    assert ours[0] == theirs[0]
    assert ours[1] == pytest.approx(theirs[1], abs=2e-6)


def test_the_lines_keep_a_promise_to_the_very_edge(small, photo, tmp_path, monkeypatch, answers):
    limits = promising(small, tmp_path / "flowers.onnx")
    (tmp_path / "image.jpg").symlink_to(photo)
    edges = [
        [np.nextafter(limit, np.float32(0)), limit, np.nextafter(limit, np.float32(1))]
        for limit in (np.float32(limits[key]) for key in ("probability", "familiarity"))
    ]
    said = set()
    for p, f in (*((p, 1) for p in edges[0]), *((0.9, f) for f in edges[1])):
        row = np.array([[p, (1 - p) / 2, (1 - p) / 2]], np.float32)
        result = [row, np.array([f], np.float32)]
        monkeypatch.setattr(onnxruntime.InferenceSession, "run", lambda *_, r=result: r)
        ours, theirs = answers()
        assert ours[0] == theirs[0]
        said.add(ours[0])
    assert said == {"daisy", "review"}


# --- Files that were changed since -----------------------------------------------------


def test_a_broken_file_is_one_sentence(run_script, photo, exported, tmp_path):
    whole = exported.read_bytes()
    places = {
        "cut.onnx": whole[:-100_000],
        "holes.onnx": whole.replace(b"Conv", b"Cond"),
        "\x1b[31m.onnx": b"none",
    }
    for name, content in places.items():
        path = tmp_path / name
        path.write_bytes(content)
        run = run_script("predict", photo, path)
        assert (run.code, run.out) == (2, "")
        assert run.err.startswith(f"predict.py: {tmp_path}")
        assert run.err.removesuffix("\n").isprintable()

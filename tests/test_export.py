"""Exported networks: the same records as the checkpoint's, without torch; no file is believed."""

import json
import re
import resource
import subprocess
import sys

import numpy as np
import onnx_utils
import pytest
import torch
from conftest import ROOT, save_small
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from test_hostile import damaged

import data_utils
import model_utils
import predict

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def exported(checkpoint, tmp_path_factory):
    """The checkpoint as `predict.py --export` writes it."""
    path = tmp_path_factory.mktemp("exported") / "flowers.onnx"
    assert predict.main(["--export", str(path), str(checkpoint)]) == 0
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
    network, same_info = onnx_utils.load(exported)
    assert {**same_info, "calibration": 0, "format_version": 0} == {
        **{key: info[key] for key in onnx_utils.ENTRIES},
        "calibration": 0,
        "format_version": 0,
    }
    assert np.array_equal(same_info["calibration"].quantiles, info["calibration"].quantiles)
    photos = [(path, data_utils.load_image(path, info["preprocessing"])) for path in photos]
    ours = [*onnx_utils.predict_each(network, photos)]
    theirs = [*model_utils.predict_each(model, info["calibration"].patterns, photos, 8)]
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


def test_predictions_are_the_checkpoints(drawn, loaded, exported):
    probabilities, familiarity, same = differences(
        sorted(drawn.glob("valid/*/*.jpg")), loaded, exported
    )
    assert probabilities < 1e-3 and familiarity < 1e-3 and same


def test_predictions_are_the_checkpoints_on_real_photographs(real_data, loaded, exported):
    photos = sorted((real_data / "valid").glob("*/*.jpg"))[::8]
    probabilities, familiarity, _ = differences(photos, loaded, exported)
    assert probabilities < 1e-3 and familiarity < 1e-3


OPTIONS = [
    ["--info"],
    [],
    ["--top_k", 2],
    ["--format", "csv"],
    ["--format", "jsonl", "--reject"],
    ["--format", "csv", "--reject", "--keep", 0.5],
    ["--score"],
    ["--shard", "2/3"],
    ["--category_names", "names.json", "--top_k", 1],
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: " ".join(map(str, options)))
def test_every_option_works_alike(
    run_script, drawn, checkpoint, loaded, exported, tmp_path, monkeypatch, options
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(model_utils, "load_checkpoint", lambda path, device: loaded)
    (tmp_path / "names.json").write_text('{"2": "Klatschmohn", "99": "none"}')
    inputs = [] if "--info" in options else [drawn / "test", "missing.jpg"]
    theirs, ours = (
        run_script("predict", *inputs, path, *options) for path in (checkpoint, exported)
    )
    number = re.compile(r"\b\d+\.\d+")
    err = ours.err.replace(str(exported), str(checkpoint))
    assert (ours.code, err) == (theirs.code, theirs.err)
    assert number.sub("", ours.out) == number.sub("", theirs.out) != ""
    assert [*map(float, number.findall(ours.out))] == pytest.approx(
        [*map(float, number.findall(theirs.out))], abs=0.011
    )  # percent, as rounded


def test_plot(run_script, photo, exported, tmp_path):
    pytest.importorskip("matplotlib")
    assert run_script("predict", photo, exported, "--plot", tmp_path / "a.png").code == 0
    assert (tmp_path / "a.png").stat().st_size > 10_000


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


def test_applications_may_batch_as_they_like(drawn, exported):
    session = onnxruntime.InferenceSession(exported)
    preprocessing = onnx_utils.load(exported)[1]["preprocessing"]
    photos = sorted(map(str, drawn.glob("valid/*/*.jpg")))[:8]
    [images] = data_utils.load_batches(photos, preprocessing)
    whole = session.run(None, {"images": images})
    assert [value.shape for value in whole] == [(8, 4), (8,)]
    assert all(value.dtype == np.float32 for value in whole)
    assert np.allclose(whole[0].sum(1), 1)
    for size in (1, 3):
        for start in range(0, 8, size):
            part = session.run(None, {"images": images[start : start + size]})
            for one, other in zip(part, whole):
                assert np.allclose(one, other[start : start + size], atol=1e-5)


# --- The file and its use --------------------------------------------------------------


def test_the_file_is_one_and_tells_nothing_of_this_machine(exported):
    assert [*exported.parent.iterdir()] == [exported]
    onnx.checker.check_model(exported)
    content = exported.read_bytes()
    assert b"BatchNorm" not in content
    for secret in (str(ROOT), "site-packages", "forward"):
        assert secret.encode() not in content


def without(modules: list[str], *arguments) -> subprocess.CompletedProcess:
    """Run predict.py where some modules cannot be imported."""
    code = (
        f"import sys\nfor name in {modules}: sys.modules[name] = None\n"
        "import predict\nsys.exit(predict.main(sys.argv[1:]))"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True
    )


def test_prediction_takes_neither_torch_nor_onnx(photo, exported):
    run = without(["torch", "torchvision", "onnx", "onnxscript"], photo, exported)
    assert run.returncode == 0 and run.stderr == "" and "drawn poppy" in run.stdout


def test_a_package_that_is_missing_is_named(
    run_script, photo, checkpoint, exported, tmp_path, monkeypatch
):
    monkeypatch.setattr(data_utils.importlib.util, "find_spec", lambda name: None)
    run = run_script("predict", photo, exported)
    assert run.code == 2 and "takes onnxruntime: pip install onnxruntime\n" in run.err
    run = run_script("predict", "--export", tmp_path / "a.onnx", checkpoint)
    assert run.code == 2 and run.err.endswith("--export takes onnx: pip install onnx onnxscript\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--export", "checkpoint.pth", "flowers.onnx"],
        ["--export", "flowers.onnx", "flowers.onnx"],
        ["--export", "flowers.onnx"],
        ["--export", "flowers.onnx", "--info", "checkpoint.pth"],
        ["--export", "flowers.onnx", "a.png", "checkpoint.pth"],
    ],
)
def test_export_takes_a_checkpoint_and_a_name(run_script, arguments):
    run = run_script("predict", *arguments)
    assert run.code == 2 and "--export" in run.err.splitlines()[-1]


def test_an_export_that_fails_leaves_no_file(run_script, checkpoint, tmp_path, monkeypatch):
    (tmp_path / "cut.pth").write_bytes(checkpoint.read_bytes()[:-1000])
    (tmp_path / "folder.onnx").mkdir()
    for target, source in (("a.onnx", tmp_path / "cut.pth"), ("folder.onnx", checkpoint)):
        run = run_script("predict", "--export", tmp_path / target, source)
        assert run.code == 2 and run.out == "" and run.err.count("\n") == 1
    monkeypatch.setattr(model_utils, "LARGEST_EXPORT", 1000)
    run = run_script("predict", "--export", tmp_path / "a.onnx", checkpoint)
    assert run.code == 2 and "efficientnet_lite0, does not fit into an ONNX file\n" in run.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.pth", "folder.onnx"]


def test_the_lines_for_applications_work(
    run_script, photo, exported, tmp_path, monkeypatch, capsys
):
    readme = (ROOT / "README.md").read_text()
    code = readme.split("### Export to an application")[1].split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flowers.onnx").write_bytes(exported.read_bytes())
    Image.open(photo).save(tmp_path / "image.png")
    exec(code.replace("image.jpg", "image.png"), {})
    ours = capsys.readouterr().out.split()
    theirs = json.loads(run_script("predict", "image.png", exported, "--format", "jsonl").out)
    assert " ".join(ours[:-2]) == theirs["label"]
    assert float(ours[-2]) == pytest.approx(theirs["probability"], abs=1e-4)


# --- Files that nobody vouches for -----------------------------------------------------


def refused(run, path) -> bool:
    return (
        run.code == 2
        and run.out == ""
        and run.err.count("\n") == 1
        and "\x1b" not in run.err
        and str(path) in run.err
    )


@settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.data())
def test_a_damaged_file_is_one_sentence(small, photo, tmp_path, run_script, data):
    whole, path = small.read_bytes(), tmp_path / "a.onnx"
    content = data.draw(damaged(whole))
    path.write_bytes(content)
    run = run_script("predict", photo, path)
    assert run.code == 0 if content == whole else refused(run, path)


def graph(nodes, *weights, output=("probabilities", "familiarity")) -> onnx.ModelProto:
    """A network of the same form as `small`, with other layers."""
    helper, kind = onnx.helper, onnx.TensorProto
    return helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("images", kind.UINT8, ["N", 32, 32, 3])],
            [
                helper.make_tensor_value_info(output[0], kind.FLOAT, ["N", 3]),
                helper.make_tensor_value_info(output[1], kind.FLOAT, ["N"]),
            ],
            weights,
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=8,
    )


def filled(values: list[int], dims: list[int]) -> onnx.ModelProto:
    """A network whose outputs are blocks of numbers of these sizes."""
    node, tensor = onnx.helper.make_node, onnx.helper.make_tensor
    return graph(
        [
            node("ConstantOfShape", ["many"], ["probabilities"]),
            node("ConstantOfShape", ["few"], ["familiarity"]),
        ],
        tensor("many", onnx.TensorProto.INT64, [len(values)], values),
        tensor("few", onnx.TensorProto.INT64, [len(dims)], dims),
    )


def external(place: str) -> onnx.ModelProto:
    """A network whose weights lie in another file."""
    weights = onnx.helper.make_tensor("probabilities", onnx.TensorProto.FLOAT, [1, 3], [1, 0, 0])
    weights.ClearField("float_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    weights.external_data.add(key="location", value=place)
    few = onnx.helper.make_tensor("few", onnx.TensorProto.INT64, [1], [1])
    return graph([onnx.helper.make_node("ConstantOfShape", ["few"], ["familiarity"])], weights, few)


NETWORKS = {
    "no network": lambda: onnx.ModelProto(),
    "other outputs": lambda: graph([onnx.helper.make_node("Identity", ["images"], ["other"])]),
    "shapes that are not kept": lambda: filled([7, 3], [1]),
    "a lone number": lambda: filled([1, 3], []),
    "gigabytes": lambda: filled([5_000_000_000, 3], [1]),
    "weights elsewhere": lambda: external("weights.bin"),
    "weights above": lambda: external("../weights.bin"),
    "weights anywhere": lambda: external("/dev/zero"),
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_another_network_is_one_sentence(small, photo, tmp_path, run_script, monkeypatch, kind):
    network = NETWORKS[kind]()
    network.metadata_props.extend(onnx.load(small).metadata_props)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for folder in (tmp_path, tmp_path / "here"):
        (folder / "weights.bin").write_bytes(np.array([1, 0, 0], np.float32).tobytes())
    path = tmp_path / "here" / "a.onnx"
    path.write_bytes(onnx_utils.seal(network.SerializeToString()))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert refused(run_script("predict", photo, path), path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB


METADATA = {
    "categories": ["[]", "3", '["1", "1", "2"]', '["1", "2"]', '[["1"], "2", "3"]'],
    "names": [
        '["a", "b", "\\u001b[31m"]',
        '["a", "b", "\\ud800"]',
        "[" * 100_000,
        '["' + "x" * 5_000_000 + '", "a", "b"]',
    ],
    "preprocessing": [
        "{}",
        '{"resize": 1000000, "crop": 1000000, "mean": [0.0, 0.0, 0.0], '
        '"std": [1.0, 1.0, 1.0], "interpolation": "bicubic"}',
    ],
    "calibration": [
        "{}",
        '{"temperature": NaN, "quantiles": []}',
        '{"temperature": 1.0, "quantiles": [' + ", ".join(["NaN"] * 1001) + "]}",
        '{"temperature": 1.0, '
        '"quantiles": [' + ", ".join(f"{-i / 1001}" for i in range(1001)) + "]}",
    ],
    "figures": ["null", '{"epoch": 1}'],
    "seed": ["true", "1.5", "9" * 10_000],
    "versions": ['{"python": 3}', '"x"'],
    "format_version": ["2", "null", ""],
    "arch": ["7"],
}


@pytest.mark.parametrize(
    "key, text",
    [(key, text) for key in METADATA for text in METADATA[key]],
    ids=lambda text: text[:20],
)
def test_other_metadata_is_one_sentence(small, photo, tmp_path, run_script, key, text):
    network = onnx.load(small)
    for entry in network.metadata_props:
        if entry.key == key:
            entry.value = text
    path = tmp_path / "a.onnx"
    path.write_bytes(onnx_utils.seal(network.SerializeToString()))
    for arguments in ([photo, path], ["--info", path]):
        assert refused(run_script("predict", *arguments), path)


def test_text_that_is_none_is_one_sentence(small, photo, tmp_path, run_script):
    content = small.read_bytes()[: -len(onnx_utils.SEAL) - onnx_utils.DIGITS]
    assert b'"daisy"' in content
    path = tmp_path / "a.onnx"
    path.write_bytes(onnx_utils.seal(content.replace(b'"daisy"', b'"d\xffisy"')))
    assert refused(run_script("predict", photo, path), path)


def test_odd_names_survive(run_script, small, photo, tmp_path):
    records = json.loads(run_script("predict", photo, small, "--format", "jsonl").out)["top"]
    assert {(record["category"], record["label"]) for record in records} == {
        ("1", "daisy"),
        ("location", "\U0001f33b"),
        ("Blüte", 'rose \\ "'),
    }

"""What users mistype: a table through both scripts' `main`, with the sentence and the exit code."""

import json
import sys

import pytest
from conftest import ROOT
from PIL import Image

import train

TRAIN = [
    ([], 2, "DATA_DIR is missing"),
    (["DATA", "--demo"], 2, "leave DATA_DIR out"),
    (["nowhere"], 2, "the data folder nowhere does not exist"),
    (["train.py"], 2, "the data folder train.py is not a folder"),
    (["EMPTY"], 2, "no photographs to train on in EMPTY"),
    (["ONE_CLASS"], 2, "one category only to train on (rose)"),
    (["TEST_ONLY"], 2, "has no folder train"),
    (["DATA", "--epochs", "-1"], 2, "--epochs -1: it must be from 0 to"),
    (["DATA", "--epochs", "two"], 2, "invalid int value: 'two'"),
    (["DATA", "--batch_size", "0"], 2, "--batch_size 0: it must be from 1 to"),
    (["DATA", "--image-size", "8"], 2, "--image_size 8: it must be from 32 to 1024"),
    (["DATA", "--lr", "0"], 2, "--lr 0.0: it must be above 0 and at most"),
    (["DATA", "--learning_rate", "nan"], 2, "--lr nan: it must be above 0"),
    (["DATA", "--hidden_units", "0"], 2, "--hidden_units 0: whole numbers above 0"),
    (["DATA", "--hidden-units", "512,x"], 2, "--hidden_units 512,x: whole numbers above 0"),
    (["DATA", "--workers", "0"], 2, "--workers 0: it must be from 1 to"),
    (["DATA", "--min_accuracy", "95"], 2, "--min_accuracy 95.0: it must be from 0 to 1"),
    (["DATA", "--seed", "-1"], 2, "--seed -1: it must be from 0 to"),
    (["DATA", "--arch", "efficentnet"], 2, "did you mean efficientnet"),
    (["DATA", "--arch", "ResNet5"], 2, "did you mean resnet50?"),
    (["DATA", "--arch", "vit_b_16"], 2, "vit_b_16 is a vision transformer"),
    (["DATA", "--arch", "swin_t"], 2, "swin_t is a vision transformer"),
    (["DATA", "--arch", "maxvit_t"], 2, "maxvit_t is a vision transformer"),
    (["DATA", "--arch", "ViT_B_16"], 2, "is a vision transformer"),
    (["DATA", "--arch", "googlenet"], 2, "googlenet has auxiliary heads"),
    (["DATA", "--arch", "inception_v3"], 2, "inception_v3 has auxiliary heads"),
    (
        ["DATA", "--arch", "alexnet", "--weights", "none", "--image_size", "32"],
        2,
        "alexnet cannot work on 32 x 32 pixels",
    ),
    (["DATA", "--arch", "cnn", "--epochs", "0"], 2, "would leave cnn untrained"),
    (["DATA", "--weights", "nowhere.pth"], 2, "--weights nowhere.pth: no such file"),
    (["DATA", "--weights", "README.md"], 2, "README.md is damaged or no file of weights"),
    (["DATA", "--arch", "cnn", "--weights", "CHECKPOINT"], 2, "are of efficientnet_lite0, not of"),
    (["DATA", "--category_names", "nowhere.json"], 2, "nowhere.json cannot be read: No such file"),
    (["DATA", "--category_names", "LIST"], 2, "must map categories to names"),
    (["DATA", "--save_dir", "CHECKPOINT"], 2, "CHECKPOINT cannot be written to"),
    (["DATA", "--save_dir", "HISTORY"], 2, "history.csv is a folder"),
    (["DATA", "--seed", "1" * 30], 2, "it must be from 0 to"),
    (["DATA", "--batch", "3"], 2, "unrecognized arguments: --batch"),
    (["--demo", "--arch", "efficentnet"], 2, "did you mean efficientnet"),
    (["DATA", "--no_such_flag"], 2, "--no_such_flag"),
]

PREDICT = [
    ([], 2, "an image and a checkpoint are needed"),
    (["PHOTO"], 2, "PHOTO is an image; the checkpoint comes last"),
    (["CHECKPOINT", "PHOTO"], 2, "PHOTO is an image; the checkpoint comes last"),
    (["CHECKPOINT"], 2, "an image and a checkpoint are needed"),
    (["--info"], 2, "--info takes a checkpoint"),
    (["PHOTO", "CHECKPOINT", "--info"], 2, "--info takes a checkpoint and nothing else"),
    (["-", "-", "CHECKPOINT"], 2, "- can be read only once"),
    (["PHOTO", "CHECKPOINT", "--top_k", "0"], 2, "--top_k 0: it must be at least 1"),
    (["PHOTO", "CHECKPOINT", "--batch_size", "0"], 2, "--batch_size 0: it must be at least 1"),
    (["PHOTO", "CHECKPOINT", "--keep", "95"], 2, "--keep 95.0: it must be from 0 to 1"),
    (["PHOTO", "CHECKPOINT", "--shard", "0/2"], 2, "--shard 0/2: the second of eight is 2/8"),
    (["PHOTO", "CHECKPOINT", "--shard", "3/2"], 2, "--shard 3/2: the second of eight is 2/8"),
    (["PHOTO", "CHECKPOINT", "--format", "xml"], 2, "invalid choice: 'xml'"),
    (["PHOTO", "PHOTO", "CHECKPOINT", "--plot", "a.png"], 2, "--plot takes one photograph"),
    (["tests", "CHECKPOINT", "--plot", "a.png"], 2, "--plot takes one photograph"),
    (["PHOTO", "CHECKPOINT", "--top_k", "x"], 2, "invalid int value"),
    (["PHOTO", "nowhere.pth"], 2, "nowhere.pth: no such checkpoint"),
    (["PHOTO", "tests"], 2, "tests is a folder; the checkpoint is a file"),
    (["PHOTO", "README.md"], 2, "README.md is damaged or no checkpoint"),
    (["PHOTO", "CHECKPOINT", "--category_names", "README.md"], 2, "README.md is not JSON"),
    (["PHOTO", "CHECKPOINT", "--category_names", "LIST"], 2, "must map categories to names"),
    (["nowhere.jpg", "CHECKPOINT"], 1, "nowhere.jpg: no such file"),
    (["README.md", "CHECKPOINT"], 1, "README.md is not an image in a format that is read here"),
]


@pytest.fixture
def typed(drawn, checkpoint, photo, tmp_path, monkeypatch):
    """Replace the words in capitals by real paths."""

    def put(name):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        Image.new("RGB", (40, 40)).save(path)

    put("one_class/train/rose/a.jpg")
    put("one_class/valid/rose/a.jpg")
    put("test_only/test/rose/a.jpg")
    (tmp_path / "empty").mkdir()
    (tmp_path / "history" / "history.csv").mkdir(parents=True)
    (tmp_path / "list.json").write_text(json.dumps(["rose", "lily"]))
    paths = {
        "DATA": drawn,
        "CHECKPOINT": checkpoint,
        "PHOTO": photo,
        "ONE_CLASS": tmp_path / "one_class",
        "TEST_ONLY": tmp_path / "test_only",
        "EMPTY": tmp_path / "empty",
        "HISTORY": tmp_path / "history",
        "LIST": tmp_path / "list.json",
    }
    monkeypatch.chdir(ROOT)

    def replace(text):
        for word, path in paths.items():
            text = text.replace(word, str(path))
        return text

    return replace


def check(run, code, words):
    assert run.code == code and run.out == ""
    assert words in run.err.splitlines()[-1] and "Traceback" not in run.err


@pytest.mark.parametrize("arguments, code, words", TRAIN)
def test_training_mistakes_cost_no_time(
    run_script, typed, tmp_path, monkeypatch, arguments, code, words
):
    monkeypatch.setattr(train, "learn", lambda *_: pytest.fail("time is spent"))
    arguments = [
        argument if argument.startswith("-") else typed(argument) for argument in arguments
    ]
    if "--save_dir" not in arguments:
        arguments += ["--save_dir", str(tmp_path / "saved")]
    check(run_script("train", *arguments), code, typed(words) if "DATA_DIR" not in words else words)


@pytest.mark.parametrize("arguments, code, words", PREDICT)
def test_prediction_mistakes_need_no_torch(run_script, typed, monkeypatch, arguments, code, words):
    monkeypatch.setitem(sys.modules, "model_utils", None)  # importing it would fail
    check(run_script("predict", *map(typed, arguments)), code, typed(words))


def test_names_for_other_categories_are_warned_of(run_script, photo, checkpoint, tmp_path):
    (tmp_path / "names.json").write_text(json.dumps({str(i): "x" for i in range(200, 302)}))
    run = run_script("predict", photo, checkpoint, "--category_names", tmp_path / "names.json")
    assert run.code == 0 and run.out.splitlines()[0].split()[1:] == ["2", "2"]
    assert run.err.count("\n") == 1
    assert f"names 0 of the 4 categories of {checkpoint}, and 102 others" in run.err

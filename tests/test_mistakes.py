"""What users mistype: a table through both scripts' `main`, with the sentence and the exit code."""

import json
import os
import re
import sys

import pytest
from conftest import ROOT
from PIL import Image

# What is wrong with these is found without torch.
TRAIN = [
    ([], "DATA_DIR is missing"),
    (["<data>", "--demo"], "leave DATA_DIR out"),
    (["--demo", "--download", "flowers"], "leave --download out"),
    (["nowhere"], "the data folder nowhere does not exist"),
    (["train.py"], "the data folder train.py is not a folder"),
    (["<empty>"], "<empty> has no photographs to train on"),
    (["<one_class>"], "one category only (rose) to train on"),
    (["<test_only>"], "has no folder train"),
    (["<gone>"], "<gone>/train/77 cannot be read: "),
    (["<data>", "--epochs", "-1"], "argument --epochs: -1 must be from 0 to 1000000"),
    (["<data>", "--epochs", "two"], "argument --epochs: 'two' is not a whole number"),
    (["<data>", "--batch_size", "0"], "--batch_size/--batch-size: 0 must be from 1 to 1000000"),
    (["<data>", "--image-size", "8"], "--image_size/--image-size: 8 must be from 32 to 1024"),
    (["<data>", "--lr", "0"], "argument --lr/--learning_rate/--learning-rate: 0 must be above 0"),
    (["<data>", "--lr", "101"], "101 must be above 0"),
    (["<data>", "--learning_rate", "nan"], "nan must be above 0"),
    (["<data>", "--lr", "fast"], "'fast' is not a number"),
    (["<data>", "--hidden_units", "0"], "0 must be whole numbers above 0, as in 512,256"),
    (["<data>", "--hidden-units", "512,x"], "512,x must be whole numbers above 0, as in 512,256"),
    (["<data>", "--workers", "0"], "argument --workers: 0 must be from 1 to 1024"),
    (["<data>", "--min_accuracy", "95"], "--min_accuracy/--min-accuracy: 95 must be from 0 to 1"),
    (["<data>", "--seed", "-1"], "argument --seed: -1 must be from 0 to"),
    (["<data>", "--seed", "1" * 30], "must be from 0 to"),
    (["<data>", "--tune", "head"], "argument --tune: invalid choice: 'head'"),
    (["<data>", "--download", "roses"], "argument --download: invalid choice: 'roses'"),
    (["<data>", "--category_names", "nowhere.json"], "nowhere.json cannot be read: No such file"),
    (["<data>", "--category_names", "<others>"], "others names none of the categories in <data>"),
    (["<data>", "--category_names", "<list>"], "must map categories to names"),
    (["<data>", "--save_dir", "<checkpoint>"], "<checkpoint> cannot be written to"),
    (["<data>", "--save_dir", "<history>"], "history.csv is a folder"),
    (["<data>", "--resume"], "last.pth, which does not exist"),
    (["<data>", "--resume", "--save_dir", "<long>"], "last.pth, which does not exist"),
    (
        ["<data>", "--apply", "<pipe>/checkpoint.pth", "--to", "<new>"],
        "is too large, or not a file",
    ),
    (["<data>", "--save_dir", ""], "--save-dir: it is empty; is a variable of the shell not set?"),
    (["<data>", "--save_dir", "<pipe>"], "checkpoint.pth is a pipe or a device, where a file"),
    (["<unzipped>"], "<unzipped>/dataset is a data folder of its own"),
    (["<loose>"], "is in no category's folder"),
    (
        ["<data>", "--check_data", "--epochs", "3"],
        "--check_data trains nothing: leave --epochs out",
    ),
    (["<data>", "--check_data", "--resume"], "--check_data trains nothing: leave --resume out"),
    (["<data>", "--apply", "a", "--to", "b", "--minutes", "1"], "--apply trains nothing: leave"),
    (["<data>", "--batch", "3"], "unrecognized arguments: --batch"),
    (["<data>", "--no_such_flag"], "--no_such_flag"),
]


PREDICT = [
    ([], 2, "an image and a checkpoint are needed"),
    (["<photo>"], 2, "<photo> is an image; the checkpoint comes last"),
    (["<checkpoint>", "<photo>"], 2, "<photo> is an image; the checkpoint comes last"),
    (["<checkpoint>"], 2, "an image and a checkpoint are needed"),
    (["--info"], 2, "--info takes a checkpoint"),
    (["<photo>", "<checkpoint>", "--info"], 2, "--info takes a checkpoint and nothing else"),
    (["<checkpoint>", "--info", "--output", "a.csv"], 2, "--info takes a checkpoint and nothing"),
    (["<photo>", "<checkpoint>", "--null"], 2, "--null goes with - among the inputs"),
    (["<photo>", ""], 2, "it is empty; is a variable of the shell not set?"),
    (["<photo>", "<checkpoint>", "--output", "<list>/a"], 2, "list.json cannot be written to: it"),
    (["-", "-", "<checkpoint>"], 2, "- can be read only once"),
    (["<photo>", "<checkpoint>", "--top_k", "0"], 2, "--top_k/--top-k: 0 must be from 1 to"),
    (["<photo>", "<checkpoint>", "--top_k", "x"], 2, "'x' is not a whole number"),
    (["<photo>", "<checkpoint>", "--batch_size", "0"], 2, "--batch-size: 0 must be from 1 to"),
    (["<photo>", "<checkpoint>", "--keep", "95"], 2, "argument --keep: 95 must be from 0 to 1"),
    (["<photo>", "<checkpoint>", "--shard", "0/2"], 2, "0/2 must be I/N with I from 1 to N"),
    (["<photo>", "<checkpoint>", "--shard", "3/2"], 2, "3/2 must be I/N with I from 1 to N"),
    (["<photo>", "<checkpoint>", "--shard", "-1/3"], 2, "-1/3 must be I/N with I from 1 to N"),
    (["<photo>", "<checkpoint>", "--continue"], 2, "--continue goes with --output FILE"),
    (["-", "<checkpoint>", "--output", "-", "--continue"], 2, "--continue goes with --output FILE"),
    (
        ["<photo>", "<checkpoint>", "--output", "<new>.csv", "--continue", "--score"],
        2,
        "--continue goes with neither --score nor --plot",
    ),
    (["<photo>", "<checkpoint>", "--output", "a.part"], 2, "is what an unfinished file would be"),
    (
        ["<checkpoint>", "--export", "app", "--group", "a.json", "--promise", "0.9"],
        2,
        "nothing else",
    ),
    (["<checkpoint>", "--info", "--top_k", "3"], 2, "--info takes a checkpoint and nothing else"),
    (["--export", "app", "<checkpoint>", "--shard", "1/2"], 2, "--export takes a checkpoint and"),
    (["<photo>", "<checkpoint>", "--copy"], 2, "--copy goes with --sort_into"),
    (["<photo>", "<checkpoint>", "--sort_into", "<photo>"], 2, "cannot be written to: it is not a"),
    (["<photo>", "<checkpoint>", "--keep", "0.5"], 2, "--keep goes with --reject"),
    (["<photo>", "<checkpoint>", "--output", ""], 2, "it is empty; is a variable of the shell"),
    (["<photo>", "<checkpoint>", "--output", "<checkpoint>"], 2, "is what this command reads"),
    (["<photo>", "<checkpoint>", "--output", "<photo>"], 2, "is what this command reads"),
    (["<photo>", "<checkpoint>", "--output", "<pipe>/checkpoint.pth"], 2, "is a pipe or a device"),
    (["<photo>", "<checkpoint>", "--output", "/dev/null"], 2, "is a pipe or a device"),
    (["<photo>", "<checkpoint>", "--output", "/dev/stdout"], 2, "is a pipe or a device"),
    (["<photo>", "<checkpoint>", "--plot", "a.xyz"], 2, "a.xyz ends in none of .png, .jpg, .jpeg"),
    (["<photo>", "<checkpoint>", "--plot", "a"], 2, "--plot a ends in none of .png, .jpg, .jpeg"),
    (
        ["<photo>", "<checkpoint>", "--plot", "<new>.png", "--output", "<new>.png"],
        2,
        "two of --output, --plot and --report name the same file",
    ),
    (["<photo>", "<checkpoint>", "--report", "<new>.html"], 2, "--report goes with --score"),
    (["<photo>", "<checkpoint>", "--score", "--report", "<new>"], 2, "does not end in .html"),
    (["<photo>", "<checkpoint>", "--score", "--report", ".html"], 2, "does not end in .html"),
    (["<checkpoint>", "--info", "--report", "a.html"], 2, "--info takes a checkpoint and nothing"),
    (
        ["<photo>", "<checkpoint>", "--score", "--report", "<new>.html", "--output", "<new>.json"],
        2,
        "two of --output, --plot and --report name the same file",
    ),
    (["--export", "<link>", "<checkpoint>"], 2, "is what this command reads"),
    (["<photo>", "<checkpoint>", "--check_sample", "0"], 2, "0 must be from 1 to 1000"),
    (
        ["<photo>", "<checkpoint>", "--check_sample", "9", "--promise", "0.9"],
        2,
        "--check_sample draws photographs, and goes with no other answer or record",
    ),
    (
        ["<photo>", "<checkpoint>", "--check_sample", "9", "--output", "<new>.html"],
        2,
        "two of --output, --plot and --report name the same file",
    ),
    (["<photo>", "<checkpoint>", "--checked", "<list>"], 2, "is not a sample of --check_sample"),
    (["<checkpoint>", "--info", "--checked", "a.csv"], 2, "--info takes a checkpoint and nothing"),
    (["<photo>", "<nothing>"], 2, "<nothing> is empty"),
    (["<photo>", "<lfs>"], 2, "<lfs> is a Git LFS pointer; git lfs pull fetches the file itself"),
    (["<nothing>", "<checkpoint>"], 1, "<nothing> is empty"),
    (["<photo>", "<checkpoint>", "--only", "<pipe>/checkpoint.pth"], 2, "is too large, or not a"),
    (["<photo>", "<checkpoint>", "--output", "<long>"], 2, "cannot be written to"),
    (["<photo>", "<checkpoint>", "--format", "xml"], 2, "invalid choice: 'xml'"),
    (["<photo>", "<photo>", "<checkpoint>", "--plot", "a.png"], 2, "--plot takes one photograph"),
    (["tests", "<checkpoint>", "--plot", "a.png"], 2, "--plot takes one photograph"),
    (["<photo>", "nowhere.pth"], 2, "nowhere.pth: no such checkpoint"),
    (["<photo>", "tests"], 2, "tests is a folder; the checkpoint is a file"),
    (["<photo>", "README.md"], 2, "README.md is damaged or no checkpoint"),
    (["<photo>", "<checkpoint>", "--category_names", "README.md"], 2, "README.md is not JSON"),
    (["<photo>", "<checkpoint>", "--category_names", "<list>"], 2, "must map categories to names"),
    (["nowhere.jpg", "<checkpoint>"], 1, "nowhere.jpg: no such file"),
    (["README.md", "<checkpoint>"], 1, "README.md is not an image in a format that is read here"),
]


def case(*row):
    """A row of a table, under what is typed."""
    return pytest.param(*row, id=" ".join(row[0]) or "nothing")


@pytest.fixture
def typed(drawn, checkpoint, photo, tmp_path, monkeypatch):
    """Replace the words in angle brackets by real paths."""

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
    put("unzipped/dataset/train/rose/a.jpg")
    put("loose/train/a.jpg")
    for name in ("rose", "lily"):
        put(f"gone/train/{name}/a.jpg")
        put(f"gone/valid/{name}/a.jpg")
    (tmp_path / "gone" / "train" / "77").symlink_to("/nowhere")
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / "checkpoint.pth")
    (tmp_path / "link.onnx").symlink_to(checkpoint)
    (tmp_path / "nothing").touch()
    (tmp_path / "others").write_text(json.dumps({"rose": "Rose"}))
    (tmp_path / "lfs").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    elsewhere = {
        "link": tmp_path / "link.onnx",
        "long": tmp_path / ("a" * 300) / "b",
        "data": drawn,
        "checkpoint": checkpoint,
        "photo": photo,
    }
    elsewhere["list"] = tmp_path / "list.json"
    monkeypatch.chdir(ROOT)

    def replace(text):
        return re.sub("<(.*?)>", lambda word: str(elsewhere.get(word[1], tmp_path / word[1])), text)

    return replace


@pytest.fixture
def no_torch(monkeypatch):
    """Let an import of what imports torch fail."""
    rooms = ("learning", "network", "model_utils")
    for name in {*rooms, *(name for name in sys.modules if name.split(".")[0] in rooms)}:
        monkeypatch.setitem(sys.modules, name, None)


def check(run, code, words):
    assert run.code == code
    assert run.out == ""
    assert words in run.err.splitlines()[-1]
    assert "Traceback" not in run.err


def run_training(run_script, typed, tmp_path, arguments):
    arguments = [*map(typed, arguments)]
    if "--save_dir" not in arguments:
        arguments += ["--save_dir", str(tmp_path / "saved")]
    return run_script("train", *arguments)


@pytest.mark.parametrize(("arguments", "words"), [case(*row) for row in TRAIN])
def test_training_mistakes_need_no_torch(run_script, typed, tmp_path, no_torch, arguments, words):
    check(run_training(run_script, typed, tmp_path, arguments), 2, typed(words))


@pytest.mark.parametrize(("arguments", "code", "words"), [case(*row) for row in PREDICT])
def test_prediction_mistakes_need_no_torch(run_script, typed, no_torch, arguments, code, words):
    check(run_script("predict", *map(typed, arguments)), code, typed(words))


def test_names_for_other_categories_are_warned_of(run_script, photo, checkpoint, tmp_path):
    (tmp_path / "names.json").write_text(json.dumps({str(i): "x" for i in range(200, 302)}))
    run = run_script("predict", photo, checkpoint, "--category_names", tmp_path / "names.json")
    assert run.code == 0
    assert run.out.splitlines()[0].split()[1:] == ["2", "2"]
    assert run.err.count("\n") == 1
    assert f"names 0 of the 4 categories of {checkpoint}" in run.err

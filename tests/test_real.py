"""On real photographs, where FLOWERS_DATA names a folder like `flowers`; else skipped."""

import csv

import torch

import data_utils
import model_utils
import predict


def test_the_solved_head_names_real_flowers(run_script, real_data, tmp_path, capsys):
    """At least 96.5 % on valid, and the same figure through predict.py, photograph by photograph.

    In float32 it is the same, but for one photograph in a hundred.
    """
    assert run_script("train", real_data, "--epochs", 0, "--save_dir", tmp_path).code == 0
    with open(tmp_path / "history.csv", newline="") as file:
        accuracy = float(next(csv.DictReader(file))["valid_accuracy"])
    photos = sorted((real_data / "valid").glob("*/*.jpg"))
    checkpoint = str(tmp_path / "checkpoint.pth")
    right = sum(predict.run(str(path), checkpoint, 1, None, False)[0].split()[-1]
                == path.parent.name for path in photos)
    assert right / len(photos) == accuracy >= 0.965
    model, info = model_utils.load_checkpoint(checkpoint, precision=torch.float32)
    assert info["names"][0] == "pink primrose"
    batches = data_utils.load_batches(list(map(str, photos)), info["preprocessing"], workers=2)
    named = model_utils.predict(model, batches).argmax(1).tolist()
    plain = sum(info["categories"][i] == path.parent.name for i, path in zip(named, photos))
    assert abs(plain - right) <= len(photos) / 100

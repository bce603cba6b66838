"""On real photographs, where FLOWERS_DATA names a folder like `flowers`; else skipped."""

import csv

import model_utils
import predict


def test_the_solved_head_names_real_flowers(run_script, real_data, tmp_path, capsys):
    """At least 94.5 % on valid, and the same figure through predict.py, photograph by photograph."""
    assert run_script("train", real_data, "--epochs", 0, "--save_dir", tmp_path).code == 0
    with open(tmp_path / "history.csv", newline="") as file:
        accuracy = float(next(csv.DictReader(file))["valid_accuracy"])
    photos = sorted((real_data / "valid").glob("*/*.jpg"))
    checkpoint = str(tmp_path / "checkpoint.pth")
    right = sum(predict.run(str(path), checkpoint, 1, None, False)[0].split()[-1]
                == path.parent.name for path in photos)
    assert right / len(photos) == accuracy >= 0.945
    assert model_utils.load_checkpoint(checkpoint)[1]["names"][0] == "pink primrose"

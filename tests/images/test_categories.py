"""Folders of categories: their photographs, and what is left out."""

import os

from images.categories import Remarks, images_by_category


def test_what_is_left_out_has_its_reason(put):
    folder = put("loose.JPG", "1/a.jpg", "1/b.cr2", "1/within/c.TGA", "1/d", "1/Thumbs.db", "e.cr2")
    remarks = Remarks()
    images_by_category(folder, remarks)
    assert sorted(remarks.left_out) == [
        (f"{folder}/1/b.cr2", "has a suffix that is not read (.cr2)"),
        (f"{folder}/1/d", "has no suffix"),
        (f"{folder}/1/within/c.TGA", "has a suffix that is not read (.TGA)"),
        (f"{folder}/loose.JPG", "is in no category's folder"),
    ]


def test_links_that_lead_back_up_are_no_categories(put):
    folder = put("train/1/a.jpg", "train/2/b.jpg")
    for name in ("train/up", "train/1/up"):
        (folder / name).symlink_to(folder)
    (folder / "train/1/split").symlink_to("..")
    (folder / "train/1/beside").symlink_to("../2")  # not up: the photographs are there twice
    found = images_by_category(folder / "train", Remarks(), (os.path.realpath(folder),))
    assert found == {
        "1": [f"{folder}/train/1/a.jpg", f"{folder}/train/1/beside/b.jpg"],
        "2": [f"{folder}/train/2/b.jpg"],
    }


def test_a_data_folder_beside_categories_is_none(put):
    names = ["rose/a.jpg", "rose/old/train/1/b.jpg", "rose/old/valid/1/c.jpg", "rose/older/d.jpg"]
    folder = put(*names, "tram/train/e.jpg", "zip/Train/1/f.jpg")
    remarks = Remarks(has_splits=False)
    assert images_by_category(folder, remarks) == {
        "rose": [f"{folder}/rose/a.jpg", f"{folder}/rose/older/d.jpg"],
        "tram": [f"{folder}/tram/train/e.jpg"],  # no folder of categories
    }
    reason = "is a data folder of its own: it has a folder train"
    assert sorted(remarks.left_out) == [
        (f"{folder}/{name}", reason) for name in ("rose/old", "zip")
    ]
    # In a split it is a folder like others.
    assert len(images_by_category(folder, Remarks())["rose"]) == 4

"""A sample that a person checks, from the draw to the promise that rests on it."""

import csv
import io
import shutil

import pytest
from pages import Page

from prediction.output import Output
from running.errors import RunError

ANSWERED = "of 20 checked photographs "


def fill(table, target):
    """Answer as the folders say: with y, or with the right category."""
    with open(table, encoding="utf-8-sig", newline="") as file:
        first, *rows = csv.reader(file)
    for row in rows:
        category = row[2].split("/")[-2]
        row[-1] = "y" if category == row[4] else category
    with open(target, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([first, *rows])
    return target


@pytest.fixture
def batch(drawn, tmp_path):
    """Photographs of a test, under other names, one of which cannot be read."""
    shutil.copytree(drawn / "train", tmp_path / "batch")
    (tmp_path / "batch" / "1" / "empty.jpg").touch()
    return tmp_path / "batch"


def test_a_promise_rests_on_what_was_checked(run_script, batch, checkpoint, tmp_path):
    table, page = tmp_path / "some.csv", tmp_path / "some.html"
    run = run_script("predict", batch, checkpoint, "--check_sample", 20, "--output", table)
    assert (run.code, run.out) == (0, "")
    assert f"wrote {table} and {page}: 20 of " in run.err
    found = Page(page.read_bytes(), active=True)
    assert len(found.all("img")) == 20
    assert found.texts("h1") == ["Are these 20 names correct?"]

    again = run_script("predict", batch, checkpoint, "--check_sample", 20, "--output", table)
    assert again.code == 2 and "some.csv is there already" in again.err
    page.rename(tmp_path / "other.html")  # nor is somebody's page replaced
    other = tmp_path / "other.csv"
    again = run_script("predict", batch, checkpoint, "--check_sample", 20, "--output", other)
    assert again.code == 2 and "other.html is there already" in again.err

    checked = fill(table, tmp_path / "checked.csv")
    flags = ["--checked", checked, "--promise", 0.5, "--score", "--format", "csv"]
    run = run_script("predict", batch, checkpoint, *flags)
    assert run.code == 1  # one cannot be read
    assert ANSWERED in run.err
    assert "; the promise is 50.00%" in run.err
    rows = [row for row in csv.DictReader(run.out.splitlines()) if row["rank"] == "1"]
    named = sum(row["answer"] == row["label"] for row in rows)
    assert f"{named} of {len(rows)} were answered, " in run.err and named > 20

    (batch / "1" / "another.jpg").symlink_to(next((batch / "2").iterdir()))
    run = run_script("predict", batch, checkpoint, "--checked", checked, "--promise", 0.95)
    assert "was drawn from 49 photographs, and these are 50" in run.err
    assert run.code == 2
    assert (
        "it takes 59 checked photographs of the sample without a mistake; there are 20" in run.err
    )


def test_a_sample_is_of_this_batch_and_shared_by_its_shards(
    run_script, batch, drawn, checkpoint, tmp_path
):
    table = tmp_path / "sample.csv"
    run_script("predict", batch, checkpoint, "--check_sample", 20, "--output", table)
    checked = fill(table, tmp_path / "checked.csv")
    flags = ["--checked", checked, "--promise", 0.5]
    run = run_script("predict", drawn / "test", checkpoint, *flags)
    assert run.code == 2 and "20 of the 20 photographs of" in run.err

    rows = []
    for shard in ("1/2", "2/2"):
        path = tmp_path / f"{shard[0]}.csv"
        more = ["--shard", shard, "--format", "csv", "--output", path, "--top_k", 1]
        run = run_script("predict", batch, checkpoint, *flags, *more)
        assert ANSWERED in run.err
        rows += path.read_text().splitlines()[1:]
    whole = run_script("predict", batch, checkpoint, *flags, "--format", "csv", "--top_k", 1)
    assert sorted(rows) == sorted(whole.out.splitlines()[1:])


def test_names_that_are_impossible_are_wrong_in_a_sample_too(
    run_script, batch, checkpoint, tmp_path
):
    only = tmp_path / "only.txt"
    only.write_text("1\n2\n")
    table = tmp_path / "sample.csv"
    draw = ["--check_sample", 20, "--output", table, "--only", only]
    assert run_script("predict", batch, checkpoint, *draw).code == 0
    checked = fill(table, tmp_path / "checked.csv")
    with open(checked, newline="") as file:
        rows = [*csv.DictReader(file)]
    assert {row["category"] for row in rows} == {"1", "2"}
    possible = sum(row["correct"] not in ("3", "4") for row in rows)
    assert 0 < possible < 20  # the folders of the others are impossible
    flags = ["--checked", checked, "--only", only, "--promise", 0.5]
    run = run_script("predict", batch, checkpoint, *flags)
    right = sum(row["correct"] == "y" for row in rows)
    assert f"{ANSWERED}{right} are named correctly" in run.err and right <= possible


def test_a_group_keeps_the_promise_of_a_sample(run_script, batch, checkpoint, tmp_path):
    table = tmp_path / "sample.csv"
    run_script("predict", batch, checkpoint, "--check_sample", 40, "--output", table)
    checked = fill(table, tmp_path / "checked.csv")
    with open(checked, newline="") as file:
        first, *rows = csv.reader(file)
    least = sorted(rows, key=lambda row: float(row[5].rstrip("%")))[:12]
    for row in least:  # a person knows that the least probable ones are other flowers
        row[-1] = str(int(row[4]) % 4 + 1)
    with open(checked, "w", newline="") as file:
        csv.writer(file).writerows([first, *rows])
    groups = tmp_path / "groups.json"
    groups.write_text('{"1": "all", "2": "all", "3": "all", "4": "all"}')
    flags = ["--checked", checked, "--promise", 0.85, "--format", "csv", "--top_k", 1]
    for more, others in (((), "review"), (("--group", groups), "all")):
        run = run_script("predict", batch, checkpoint, *flags, *more)
        answers = {row["answer"] for row in csv.DictReader(run.out.splitlines())} - {""}
        assert len(answers) > 1 and answers & {"review", "all"} == {others}


def test_folders_of_categories_keep_their_promise_in_any_order(run_script, drawn, checkpoint):
    folders = [drawn / "train" / category for category in "1234"]
    run = run_script("predict", *folders, checkpoint, "--promise", 0.5)
    assert run.code == 0 and "review" not in run.err


def test_photographs_of_another_source_get_no_promise(
    run_script, drawn, checkpoint, tmp_path, monkeypatch
):
    one = tmp_path / "one"
    for name in ("a", "b"):  # fewer than twenty are not compared
        shutil.copytree(drawn / "train" / "3", one / name)
    run = run_script("predict", one, checkpoint, "--promise", 0.5)
    assert (run.code, run.out) == (2, "")
    assert "and these are not: of " in run.err and "--check_sample 100" in run.err

    monkeypatch.setattr("prediction.likeness.FALSE_ALARM", 100)  # now anything is too unlike
    paths = b"".join(b"%s\n" % bytes(path) for path in sorted(one.glob("*/*")) * 2)
    flags = ["--promise", 0.5, "--format", "csv", "--output", tmp_path / "names.csv"]

    def name(*more):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(paths))))
        return run_script("predict", "-", checkpoint, *flags, *more)

    write = Output.write

    def write_thirty(self, *args):
        if self.place.records == 30:
            raise RunError("the disk is full")
        write(self, *args)

    monkeypatch.setattr(Output, "write", write_thirty)
    run = name()
    assert run.code == 1 and "the disk is full" in run.err
    assert "from now on the promise cannot be kept" in run.err
    monkeypatch.setattr(Output, "write", write)
    run = name("--continue")  # what was broken off stays so
    assert run.code == 0
    assert "warning: from record 21 on, all answers are review" in run.err
    with open(tmp_path / "names.csv") as file:
        answers = [row["answer"] for row in csv.DictReader(file) if row["rank"] == "1"]
    assert {*answers[20:]} == {"review"} != {*answers[:20]}

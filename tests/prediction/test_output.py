"""Where records go, and how a stopped job goes on."""

import os

import pytest

from prediction.output import open_output
from running.errors import InputError

JOB = {"--top_k": 5, "--format": "text"}
PATHS = [(f"{i}.jpg", None) for i in range(5)]


def write(path, paths, stop=None, goes_on=False, job=JOB, name="text"):
    """Write a record for each path, raising an error before the one of the number `stop`."""
    with open_output(str(path), name, job, goes_on) as output:
        left = [*output.skip(paths)]
        for i, (file, _) in enumerate(left, output.place.records):
            if i == stop:
                raise KeyboardInterrupt
            output.write(f"record of {file}\n", file, file == "1.jpg", file == "2.jpg")
    return output


def stop(path, paths, number, **options):
    with pytest.raises(KeyboardInterrupt):
        write(path, paths, number, **options)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "names.txt"


@pytest.fixture
def part(path):
    """What a job leaves that is stopped behind three records."""
    stop(path, PATHS, 3)
    part = path.with_name("names.txt.part")
    assert part.read_text() == "record of 0.jpg\nrecord of 1.jpg\nrecord of 2.jpg\n"
    return part


WHOLE = "".join(f"record of {i}.jpg\n" for i in range(5))


# --- A file ---------------------------------------------------------------------------


def test_a_file_appears_whole(tmp_path):
    path = tmp_path / "new" / "names.csv"
    with open_output(str(path), "csv") as output:
        output.write("Blüte \udcff\n", "a.jpg")
        assert not path.exists()
    header = b"file,answer,rank,label,category,probability,error\n"
    assert path.read_bytes() == header + "Blüte ".encode() + b"\xff\n"
    assert os.listdir(path.parent) == ["names.csv"]


def test_two_do_not_write_one_file(tmp_path):
    path = tmp_path / "names.csv"
    (tmp_path / ".names.csv.123.tmp").touch()  # of an earlier version that was killed
    (tmp_path / "link.csv").symlink_to("names.csv")
    with open_output(str(path), "text") as output:
        output.write("first", "a.jpg")
        assert not (tmp_path / ".names.csv.123.tmp").exists()
        with (
            pytest.raises(InputError, match="another predict.py is writing .*link.csv"),
            open_output(str(tmp_path / "link.csv"), "text"),
        ):
            pass
    assert path.read_text() == "first"
    assert sorted(os.listdir(tmp_path)) == ["link.csv", "names.csv"]


# --- A job that goes on ---------------------------------------------------------------


def test_a_stopped_job_goes_on(path, part):
    output = write(path, PATHS, goes_on=True)
    assert path.read_text() == WHOLE
    assert os.listdir(path.parent) == ["names.txt"]
    assert (output.place.records, output.place.failed, output.place.broken_off) == (5, 1, 4)


@pytest.mark.parametrize(
    "paths",
    [
        PATHS[1:],
        PATHS[:2],
        [],
        [PATHS[1], PATHS[0], *PATHS[2:]],
        [("0.jpg1.jpg", None), *PATHS[2:]],
    ],
)
def test_other_photographs_are_refused(path, part, paths):
    before = part.read_bytes()
    with pytest.raises(InputError, match="is of other photographs, or of these in another order"):
        write(path, paths, goes_on=True)
    assert part.read_bytes() == before
    write(path, PATHS, goes_on=True)
    assert path.read_text() == WHOLE


@pytest.mark.parametrize("damage", range(60))
def test_what_a_kill_or_a_power_cut_leaves_is_mended(path, part, damage):
    log = path.with_name("names.txt.part.log")
    for file in (part, log)[damage % 2 :] if damage < 50 else ():
        content = file.read_bytes()
        cut = len(content) - damage % 25
        file.write_bytes(content[:cut] + b"\0" * (damage % 3))
    if damage >= 50:
        part.write_bytes(part.read_bytes().replace(b"1.jpg", b"\0" * (damage - 49)))
    try:
        write(path, PATHS, goes_on=True)
    except InputError as error:  # the log's first line has gone
        assert "another" in str(error)
        assert not log.read_bytes().startswith(b"{")
    else:
        assert path.read_text() == WHOLE

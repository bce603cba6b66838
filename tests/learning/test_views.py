"""Views of photographs: the same in any order and company, and what is kept for them."""

import numpy as np
import pytest
from PIL import Image

import learning.views
from images.decode import Preprocessing, load_batches
from learning.resources import ProcessGroup, Resources
from learning.views import KINDS, Photographs, random_view

SMALL = Preprocessing(32, 32, (0.0,) * 3, (1.0,) * 3)
LARGE = Preprocessing(107, 96, (0.0,) * 3, (1.0,) * 3)


def look(photographs: Photographs, indices, views, batch_size: int = 4) -> np.ndarray:
    return np.concatenate(
        [*photographs.batches(np.array(indices), np.array(views), [batch_size] * len(indices))]
    )


def noise(folder, sizes) -> list[str]:
    paths = [str(folder / f"{i}.png") for i in range(len(sizes))]
    for i, path in enumerate(paths):
        pixels = np.random.default_rng(i).integers(256, size=(*sizes[i], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return paths


@pytest.fixture
def small(tmp_path):
    """Pictures of just the size of the network."""
    return noise(tmp_path, [(32, 32)] * 11)


@pytest.fixture
def large(tmp_path):
    return noise(tmp_path, [(140, 120), (120, 140), (96, 96), (140, 120), (400, 50)] * 2)


@pytest.mark.parametrize("varied", [False, True])
def test_a_view_is_the_same_in_any_order_and_company(large, varied):
    views = [1, 0, 1, 2, 1, 0, 2, 2, 1, 0]
    photographs = Photographs(large, LARGE, 5, Resources(workers=2), varied=varied)
    together = look(photographs, range(10), views, 10)
    assert (together.dtype, together.shape) == (np.uint8, (10, 96, 96, 3))
    assert (look(photographs, [*range(9, -1, -1)], views[::-1], 3)[::-1] == together).all()
    (plain,) = load_batches([large[i] for i in (1, 5, 9)], LARGE)
    assert (together[[1, 5, 9]] == plain).all()  # view 0 is what prediction sees
    assert (look(photographs, [0], [1]) != look(photographs, [0], [2])).any()
    assert (look(Photographs(large, LARGE, 6), [0], [1]) != together[0]).any()
    for rank in (0, 1):
        resources = Resources(processes=ProcessGroup(rank, 2))
        shard = Photographs(large, LARGE, 5, resources, varied=varied)
        assert shard.paths == large[rank::2]
        assert (look(shard, range(5), views[rank::2], 8) == together[rank::2]).all()


def test_what_fits_into_memory_is_decoded_once(small, monkeypatch):
    size, order = 32 * 32 * 3, np.random.default_rng(0).permutation(11)
    everything = look(Photographs(small, SMALL, 3), order, [1] * 11)
    some = Photographs(small, SMALL, 3, memory=3 * size + 1)
    assert (look(some, order, [1] * 11) == everything).all()
    assert (len(some.decoded), some.memory_left) == (3, 1)
    whole = Photographs(small, SMALL, 3, memory=11 * size)
    plain = look(whole, order, [0] * 11)
    monkeypatch.setattr(learning.views, "load_image", None)
    assert (look(whole, order, [1] * 11) == everything).all()
    assert (everything != plain).any()


def test_pictures_of_the_networks_size_are_only_shifted_and_mirrored(small):
    photographs = Photographs(small, SMALL)
    plain = look(photographs, [0], [0])[0]
    parts = [plain[y : y + 24, x : x + 24] for y in range(1, 8) for x in range(1, 8)]
    for view in look(photographs, [0] * 20, range(1, 21)):
        inside = view[4:-4, 4:-4]
        assert any((each == inside).all() or (each[:, ::-1] == inside).all() for each in parts)


@pytest.mark.parametrize("kind", [*KINDS, "plain"])
@pytest.mark.parametrize("size", [(1, 1), (1, 90), (200, 100), (107, 107)])
def test_every_kind_of_view_is_made_of_pictures_of_any_size(kind, size, monkeypatch):
    monkeypatch.setattr(learning.views, "KINDS", {kind: 1.0})
    monkeypatch.setattr(learning.views, "OTHER", 1.0)
    image = np.full((*size, 3), 100, np.uint8)
    for seed in range(20):
        view = random_view(image, LARGE, np.random.default_rng(seed), varied=True)
        assert (view.dtype, view.shape) == (np.uint8, (96, 96, 3))
        if kind not in ("light", "noise", "colour"):  # beyond the edge stands the picture, too
            assert abs(view.astype(int) - 100).max() < 4

"""Near duplicates: photographs that are the same picture, or the next shot of it.

One may be a copy of the other that was stored again, scaled, cropped or mirrored. Small layouts of
colours propose pairs, and so do the neighbours among the network's features. A pair is then laid
on top of each other as well as it can be, and their correlation decides. How high that has to be
comes from pairs of different categories, which are no copies whatever they look like.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from running.console import Progress, no_progress

SIDE = 32  # of the small pictures that are compared
LAYOUT = 6  # rows and columns of colours by which pairs are proposed
# Parts of a small picture (top, left, side) that may be the whole of another one: the whole, and
# crops to 85 %, from which the search for the best position starts.
PARTS = ((0, 0, 32), *((top, left, 27) for top in (0, 2, 5) for left in (0, 2, 5)))
PROPOSED = 3  # pairs of each photograph by their layouts
ALIKE = 0.7  # as layouts have to be, -1..1, of photographs with similar features

GRID = 16  # rows and columns of points at which two pictures are compared
SMALLEST, LARGEST = 0.65, 1.05  # sides of the part of one picture that may be the other
# First step of the search for that part, in half pictures; how often it is made shorter; and for
# pairs that are not so much alike after two rounds, no more.
STEP, SHORTER, ROUNDS, PROMISING = 0.1, 0.6, 5, 0.8

# Of a thousand photographs so many pairs that are no copies may be taken for them.
FALSE_PAIRS = 0.5
ENOUGH = 50  # pairs of different categories that tell how alike other photographs can be
FEW_LIMIT = 0.97  # the correlation that is asked for where there are fewer
# The limit is not outside of these: where all categories but one are easily told apart, its
# photographs of one studio are no copies; and where many copies have different labels, they are.
LOWEST, HIGHEST = 0.94, 0.98


class Copies(NamedTuple):
    """Pairs of photographs that are near duplicates, the most alike first."""

    pairs: np.ndarray  # indices (P, 2), the lower one first
    alike: np.ndarray  # the correlation of each pair (P,), -1..1
    limit: float  # that it has to reach

    def groups(self, count: int) -> np.ndarray:
        """Number photographs so that those that are copies of one another share a number: (N,)."""
        numbers = np.arange(count)
        for i, j in self.pairs.tolist():
            if numbers[i] != numbers[j]:
                numbers[numbers == numbers[i]] = numbers[j]
        return numbers


def find_copies(
    small: np.ndarray,
    neighbours: np.ndarray,
    labels: np.ndarray,
    progress: Progress = no_progress,
) -> Copies:
    """Find near duplicates among photographs, uint8 (N, SIDE, SIDE, 3), with categories (N,).

    Candidates are the photographs with the most similar features, see `find_neighbours` (N, k).
    """
    pictures = torch.from_numpy(small).permute(0, 3, 1, 2)
    pairs, ways = _propose(pictures, torch.from_numpy(neighbours), progress)
    parts = zip(pairs.split(512), ways.split(512))
    aligned = (_align(pictures, *part) for part in parts)
    alike = torch.cat([*progress(aligned, len(pairs), "comparing", " pairs")]).numpy()
    pairs = pairs.sort(1).values
    found = pairs.numpy()
    different = labels[found[:, 0]] != labels[found[:, 1]]
    limit = find_limit(alike[different], len(small))
    order = np.argsort(-alike, kind="stable")
    order = order[alike[order] >= limit]
    return Copies(found[order], alike[order], limit)


def find_limit(others: np.ndarray, count: int) -> float:
    """Return the correlation from which on a pair counts as copies.

    With t = -ln(1 - correlation) the tail of pairs that are no copies is about exponential.
    `others` are the most alike of them (M,), from `count` photographs. The rate is that between two
    ranks, so that a few copies among them, with a wrong label, change little. The limit is where
    `FALSE_PAIRS` are to be expected, between `LOWEST` and `HIGHEST`.
    """
    if len(others) < ENOUGH:
        return FEW_LIMIT
    far = -np.log1p(-np.sort(others)[::-1].clip(max=1 - 1e-6))
    low = len(far) // 2
    high = max(len(far) // 20, 2)
    rate = np.log(low / high) / max(far[high - 1] - far[low - 1], 1e-6)
    expected = FALSE_PAIRS * count / 1000
    limit = 1 - np.exp(-(far[high - 1] + np.log(high / expected) / rate))
    return float(np.clip(limit, LOWEST, HIGHEST))


def _normalise(pictures: torch.Tensor) -> torch.Tensor:
    """Turn pictures (N, 3, H, W) into vectors whose products are correlations."""
    centred = (pictures - pictures.mean((2, 3), keepdim=True)).flatten(1)
    return F.normalize(centred, dim=1, eps=centred.shape[1] ** 0.5)


def _layout(pictures: torch.Tensor, part: tuple[int, int, int], flip: bool) -> torch.Tensor:
    """Sum up the colours of a part of each picture in a vector (N, 3 LAYOUT^2) of length 1."""
    top, left, side = part
    chunks = pictures.split(4096)
    cut = (chunk[:, :, top : top + side, left : left + side].float() for chunk in chunks)
    small = torch.cat([F.adaptive_avg_pool2d(chunk, LAYOUT) for chunk in cut])
    return _normalise(small.flip(3) if flip else small)


def _propose(
    pictures: torch.Tensor, neighbours: torch.Tensor, progress: Progress
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pair each picture with those that its whole is most like a part of.

    Returns pairs (P, 2), the whole one first, and which part it is (P,): its number in `PARTS`
    times two, plus one where it is mirrored.
    """
    layouts = [_layout(pictures, part, flip) for part in PARTS for flip in (False, True)]
    count = len(pictures)
    found = []
    blocks = (range(start, min(start + 512, count)) for start in range(0, count, 512))
    for block in progress(blocks, count, "pairing"):
        start, rows = block.start, slice(block.start, block.stop)
        best = torch.full((len(layouts[0][rows]), count), -2.0)
        ways = torch.zeros(best.shape, dtype=torch.uint8)
        for number, part in enumerate(layouts):
            likeness = layouts[0][rows] @ part.T
            better = likeness > best
            best = torch.where(better, likeness, best)
            ways[better] = number
        best.diagonal(start).fill_(-2)
        others = torch.cat([best.topk(min(PROPOSED, count - 1), 1).indices, neighbours[rows]], 1)
        own = torch.tensor(block)[:, None].expand_as(others)
        likeness = best.gather(1, others)
        keep = likeness > ALIKE
        keep[:, :PROPOSED] = True
        found.append([x[keep] for x in (own, others, ways.gather(1, others).long(), likeness)])
    own, others, way, likeness = (torch.cat(parts) for parts in zip(*found))
    # Of the two directions of a pair the better one.
    order = likeness.argsort(descending=True)
    numbers = torch.minimum(own, others) * count + torch.maximum(own, others)
    _, first = np.unique(numbers[order].numpy(), return_index=True)
    chosen = order[torch.from_numpy(first)]
    return torch.stack([own, others], 1)[chosen], way[chosen]


def _align(pictures: torch.Tensor, pairs: torch.Tensor, ways: torch.Tensor) -> torch.Tensor:
    """Return the correlation (P,) of pairs (P, 2), the best over side and position of the part."""
    inner, outer = pictures[pairs[:, 0]].float(), pictures[pairs[:, 1]].float()
    # Where the part is mirrored, the other one is instead.
    inner = torch.where((ways % 2 == 1)[:, None, None, None], inner.flip(3), inner)
    top, left, side = torch.tensor(PARTS, dtype=torch.float32)[ways // 2].unbind(1)
    place = torch.stack([side / SIDE, (2 * left + side) / SIDE - 1, (2 * top + side) / SIDE - 1], 1)
    line = torch.linspace(-0.95, 0.95, GRID)
    points = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)[None]  # x, y
    wanted = _normalise(_sample(inner, points.expand(len(inner), -1, -1, -1)))
    best, place = _search(outer, wanted, points, place, STEP, 2)
    go_on = best > PROMISING
    step = STEP * SHORTER**2
    best[go_on], _ = _search(outer[go_on], wanted[go_on], points, place[go_on], step, ROUNDS)
    return best


def _search(
    outer: torch.Tensor,
    wanted: torch.Tensor,
    points: torch.Tensor,
    place: torch.Tensor,
    step: float,
    rounds: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Climb from places (P, 3), side and centre, to better ones; return correlations and places."""

    def correlate(place: torch.Tensor) -> torch.Tensor:
        moved = points * place[:, :1, None, None] + place[:, None, None, 1:]
        return (_normalise(_sample(outer, moved)) * wanted).sum(1)

    best = correlate(place)
    for _ in range(rounds):
        for axis in range(3):
            for sign in (-1, 1):
                tried = place.clone()
                tried[:, axis] += sign * step
                tried[:, 0].clamp_(SMALLEST, LARGEST)
                now = correlate(tried)
                better = now > best
                best = torch.where(better, now, best)
                place = torch.where(better[:, None], tried, place)
        step *= SHORTER
    return best, place


def _sample(pictures: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Read pictures (P, 3, H, W) at points (P, G, G, 2), -1..1 from edge to edge."""
    return F.grid_sample(pictures, points, padding_mode="border", align_corners=False)

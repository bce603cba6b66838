"""Near duplicates: a picture stored again, scaled, cropped or mirrored, or the next shot of it."""

import numpy as np
import torch
from torch.nn import functional as F

from running.console import Progress

SIDE = 32  # of the small pictures that are compared
LAYOUT = 6  # rows and columns of colours by which pairs are proposed
# Parts of a small picture (top, left, side) that may be the whole of another one: the whole, and
# crops to 85 %, from which the search for the best position starts.
PARTS = ((0, 0, 32), *((top, left, 27) for top in (0, 2, 5) for left in (0, 2, 5)))
PROPOSED = 3  # pairs of each photograph by their layouts
ALIKE = 0.7  # the least correlation of layouts of photographs with similar features

GRID = 16  # rows and columns of points at which two pictures are compared
SMALLEST, LARGEST = 0.65, 1.05  # sides of the part of one picture that may be the other
# The first step of the search for that part, in half pictures, and the factor after each round.
STEP, SHORTER = 0.1, 0.6
ROUNDS, MORE_ROUNDS, PROMISING = 2, 5, 0.8  # more for pairs that are promising after the first

FALSE_PAIRS = 0.5  # expected among a thousand photographs
ENOUGH, FEW_LIMIT = 50, 0.97  # pairs that are no copies; the limit where there are fewer
# The limit is not outside of these: where all categories but one are easily told apart, its
# photographs of one studio are no copies; and where many copies have different labels, they are.
LOWEST, HIGHEST = 0.94, 0.98

LONGEST_CHAIN = 20  # photographs, of which each is the copy of another one


def find_copies(
    small: np.ndarray, neighbours: torch.Tensor, labels: np.ndarray, progress: Progress
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Find near duplicates among photographs, uint8 (N, SIDE, SIDE, 3), with categories (N,).

    Pairs with similar layouts of colours are candidates, and the photographs with the most similar
    features, `neighbours` (N, k). Each pair is aligned, and the correlation of the pixels decides.
    Returns pairs (P, 2), the lower index first; their correlations (P,), the highest first; and
    whether there are no pairs because even photographs of different categories, as of objects on
    white, are as alike as copies.
    """
    pictures = torch.from_numpy(small).permute(0, 3, 1, 2)
    pairs, ways = _propose(pictures, neighbours, progress)
    aligned = (_align(pictures, *part) for part in zip(pairs.split(512), ways.split(512)))
    alike = torch.cat([*progress(aligned, len(pairs), "comparing", " pairs")]).numpy()
    found = pairs.sort(1).values.numpy()
    others = alike[labels[found[:, 0]] != labels[found[:, 1]]]
    too_alike = len(others) >= ENOUGH and np.quantile(others, 0.75) >= HIGHEST
    limit = np.inf if too_alike else find_limit(others, len(small))
    order = np.argsort(-alike, kind="stable")
    order = order[alike[order] >= limit]
    return found[order], alike[order], too_alike


def find_limit(others: np.ndarray, count: int) -> float:
    """Return the correlation from which on a pair of `count` photographs counts as copies.

    `others` (M,) are the correlations of pairs of different categories, which are no copies. The
    tail of -ln(1 - correlation) is about exponential; its rate is that between
    two ranks, so that a few wrong labels change little. The limit is where `FALSE_PAIRS` are to be
    expected.
    """
    if len(others) < ENOUGH:
        return FEW_LIMIT
    tail = -np.log1p(-np.sort(others)[::-1].clip(max=1 - 1e-6))
    low, high = len(tail) // 2, max(len(tail) // 20, 2)
    rate = np.log(low / high) / max(tail[high - 1] - tail[low - 1], 1e-6)
    limit = 1 - np.exp(-(tail[high - 1] + np.log(high / (FALSE_PAIRS * count / 1000)) / rate))
    return float(np.clip(limit, LOWEST, HIGHEST))


def _normalise(pictures: torch.Tensor) -> torch.Tensor:
    """Turn pictures (N, 3, H, W) into vectors whose products are correlations."""
    centred = (pictures - pictures.mean((2, 3), keepdim=True)).flatten(1)
    return F.normalize(centred, dim=1, eps=centred.shape[1] ** 0.5)


def _layouts(pictures: torch.Tensor) -> torch.Tensor:
    """Shrink each part of each picture, and its mirror image, to a vector (2 PARTS, N, D)."""
    parts = [pictures[:, :, top : top + side, left : left + side] for top, left, side in PARTS]
    layouts = [F.adaptive_avg_pool2d(part, LAYOUT) for part in parts]
    return torch.stack([_normalise(way) for each in layouts for way in (each, each.flip(3))])


def _propose(
    pictures: torch.Tensor, neighbours: torch.Tensor, progress: Progress
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pair pictures, the first with part of the second: indices (P, 2), and which layout (P,)."""
    count = len(pictures)
    layouts = torch.cat([_layouts(chunk.float()) for chunk in pictures.split(4096)], 1)
    found = []
    for rows in progress(torch.arange(count).split(64), count, "pairing"):
        likeness = layouts[0, rows] @ layouts.flatten(0, 1).T
        best, ways = likeness.unflatten(1, (len(layouts), count)).max(1)
        best.scatter_(1, rows[:, None], -2)  # itself
        most_alike = best.topk(min(PROPOSED, count - 1), 1).indices
        others = torch.cat([most_alike, neighbours[rows]], 1)
        likeness = best.gather(1, others)
        keep = likeness > ALIKE
        keep[:, :PROPOSED] = True
        pairs = torch.stack([rows[:, None].expand_as(others), others], 2)
        found.append((pairs[keep], ways.gather(1, others)[keep], likeness[keep]))
    pairs, ways, likeness = (torch.cat(parts) for parts in zip(*found))
    # Of the two directions of a pair the better one.
    order = likeness.argsort(descending=True)
    _, first = np.unique(pairs[order].sort(1).values.numpy(), axis=0, return_index=True)
    chosen = order[torch.from_numpy(first)]
    return pairs[chosen], ways[chosen]


def _align(pictures: torch.Tensor, pairs: torch.Tensor, ways: torch.Tensor) -> torch.Tensor:
    """Return the correlation (P,) of pairs (P, 2), the best over side and position of the part."""
    inner, outer = pictures[pairs[:, 0]].float(), pictures[pairs[:, 1]].float()
    # Where the part is mirrored, the other one is instead.
    inner = torch.where((ways % 2 == 1)[:, None, None, None], inner.flip(3), inner)
    top, left, side = torch.tensor(PARTS, dtype=torch.float32)[ways // 2].unbind(1)
    place = torch.stack([side / SIDE, (2 * left + side) / SIDE - 1, (2 * top + side) / SIDE - 1], 1)
    wanted = _read(inner, torch.tensor([[1.0, 0.0, 0.0]]).expand_as(place))
    best, place = _search(outer, wanted, place, STEP, ROUNDS)
    more, step = best > PROMISING, STEP * SHORTER**ROUNDS
    best[more], _ = _search(outer[more], wanted[more], place[more], step, MORE_ROUNDS)
    return best


def _search(
    outer: torch.Tensor, wanted: torch.Tensor, place: torch.Tensor, step: float, rounds: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Climb from places (P, 3), side and centre, to better ones; return correlations and places."""
    best = (_read(outer, place) * wanted).sum(1)
    for _ in range(rounds):
        for axis in range(3):
            for sign in (-1, 1):
                tried = place.clone()
                tried[:, axis] += sign * step
                tried[:, 0].clamp_(SMALLEST, LARGEST)
                now = (_read(outer, tried) * wanted).sum(1)
                better = now > best
                best = torch.where(better, now, best)
                place = torch.where(better[:, None], tried, place)
        step *= SHORTER
    return best, place


def _read(pictures: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """Read a grid of points from a part of each picture, with side and centre (P, 3)."""
    line = torch.linspace(-0.95, 0.95, GRID)
    points = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)  # x, y; -1..1
    points = points * place[:, :1, None, None] + place[:, None, None, 1:]
    return _normalise(F.grid_sample(pictures, points, padding_mode="border", align_corners=False))

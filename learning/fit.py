"""How a network learns: its optimizer, the steps of an epoch, the average of its weights."""

import math
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import torch
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from learning.activations import Activations, discard_leftovers
from learning.head import SMOOTHING, prior_offset
from learning.resources import Resources
from learning.run import Run
from learning.views import Photographs, Splits
from network.checkpoint import as_float
from network.classifier import Classifier, chain, count_frozen_layers
from network.devices import learning_precision
from network.inference import for_inference
from running.errors import InputError, RunError
from running.recipe import count_views


def open_activations(
    run: Run, splits: Splits, resources: Resources
) -> tuple[Activations, Activations]:
    """Open the activations of train and valid that the epochs work on; clear leftovers.

    Without a valid, these are those of train.
    """
    model, settings = run.model, run.settings
    learns_tail = settings.tune == "tail" and settings.recipe.epochs
    num_frozen = count_frozen_layers(model.body) if learns_tail else 0
    memory = 0 if num_frozen else resources.memory
    varied = run.weights_source is not None  # from scratch it was not tried
    frozen = for_inference(model)

    def open_split(name: str, num_views: int) -> Activations:
        paths, identity = splits[name][0], f"{run.fingerprint} {name}"
        views = Photographs(paths, run.preprocessing, settings.seed, resources, memory, varied)
        return Activations(frozen, num_frozen, views, num_views, identity)

    # Where no layer is frozen, and nothing is cached, every epoch sees a new view.
    train_set = open_split("train", count_views(len(splits["train"][0])))
    valid_set = open_split("valid", 1) if "valid" in splits else train_set
    discard_leftovers(resources, [train_set, valid_set])
    return train_set, valid_set


class Learner:
    """A network that learns, with its optimizer and the moving average of its weights.

    Of a pretrained network the layers after the frozen ones learn. What is evaluated and kept is a
    moving average of its weights over about a tenth of the run: good from the first epoch on, while
    the weights themselves first lose what the head knew. From scratch everything learns, and
    nothing is averaged. The model of the run is changed in place; labels are int64 (N,). Of some
    photographs alone, `chosen` are the indices. Raises InputError if the optimizer's state in
    last.pth is damaged.
    """

    def __init__(
        self,
        run: Run,
        activations: Activations,
        labels: np.ndarray,
        chosen: np.ndarray | None = None,
        title: str = "",
    ):
        model, settings = run.model, run.settings
        processes = activations.resources.processes
        self.chosen = np.arange(len(labels)) if chosen is None else chosen
        self.model, self.activations, self.title = model, activations, title
        self.labels = labels = labels[self.chosen]
        self.processes, self.seed = processes, settings.seed
        # This process's part of the photographs of a step, and of an epoch's weights.
        self.recipe = settings.recipe
        most = -(-self.recipe.batch_size // processes.size)
        self.batch_sizes = divide(-(-len(labels) // processes.size), most)
        self.offset = prior_offset(labels, model.num_classes).to(model.mean.device)
        weights = sample_weights(len(labels), self.batch_sizes, processes.rank, processes.size)
        self.weights = torch.from_numpy(weights)
        self.steps_per_epoch = len(self.batch_sizes)
        self.average: AveragedModel | None = None
        if run.weights_source is not None:
            model.frozen_statistics = True
            for layer in chain(model.body)[: activations.num_frozen]:
                layer.requires_grad_(False)
            self.average = AveragedModel(run.averaged or model, use_buffers=True)
            # What it starts from counts: else the first step's weights would replace it.
            self.average.n_averaged.fill_(1)
        self.plan_epochs(self.recipe.epochs)
        if run.rng_state is not None:
            torch.set_rng_state(run.rng_state)
        if run.optimizer_state:
            restore_optimizer(self.optimizer, run.optimizer_state)
        processes.broadcast_weights(model)  # what all start from

    @cached_property
    def optimizer(self) -> torch.optim.Optimizer:
        """Adam; PyTorch imports for a second before it makes the first one."""
        kind = torch.optim.Adam if self.average is None else torch.optim.AdamW
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        return kind(parameters, lr=self.recipe.lr, fused=True)

    @property
    def network(self) -> Classifier:
        """The network that is evaluated and kept: the average, if there is one."""
        if self.average is None:
            return self.model
        assert isinstance(self.average.module, Classifier)
        return self.average.module

    def plan_epochs(self, epochs: float) -> None:
        """Set the schedule and the moving average for so many epochs; the last may be a part."""
        self.recipe = self.recipe._replace(epochs=math.ceil(epochs))
        self.steps = round(self.steps_per_epoch * epochs)
        if self.average is not None:
            decay = max(0.0, 1 - 10 / max(self.steps, 1))
            self.average.multi_avg_fn = get_ema_multi_avg_fn(decay)

    def write_state(self, run: Run, epoch: int) -> None:
        """Store in a run what it needs to continue after this epoch; 0 is the head."""
        run.epoch, run.rng_state = epoch, torch.get_rng_state()
        if epoch:
            run.averaged = self.network if self.average else None
            run.optimizer_state = self.optimizer.state_dict()["state"]

    def step(self, loss: torch.Tensor, scaler: torch.amp.GradScaler, number: int) -> None:
        """Take a training step down the gradient of a loss; `number` counts from the first one."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.lr * lr_factor(number, self.steps)
        self.optimizer.zero_grad()
        scaler.scale(loss).backward()
        self.processes.average_gradients(self.model.parameters())
        scaler.step(self.optimizer)
        scaler.update()
        if self.average is not None:
            self.average.update_parameters(self.model)


def train_one_epoch(
    learner: Learner, epoch: int, time_is_up: Callable[[], bool] = lambda: False
) -> float | None:
    """Train on every photograph once; in a short last epoch, on some of them.

    Returns the mean loss; a single process ends an epoch whose loss is not finite. Returns None if
    the time was up before the end.
    """
    model, processes = learner.model, learner.processes
    num_frozen, device = learner.activations.num_frozen, model.mean.device
    precision = learning_precision(model, num_frozen)
    # New in every epoch, and low, so that no step is left out for an overflow.
    scaler = torch.amp.GradScaler(device.type, 1024, enabled=precision == torch.float16)
    photographs, views, mirrored = draw_epoch(learner, epoch)
    targets = torch.from_numpy(learner.labels[photographs]).to(device)
    weights, recipe = learner.weights.to(device), learner.recipe
    rows = learner.chosen[photographs] // processes.size
    batches = learner.activations.batches(rows, views, learner.batch_sizes)
    show = learner.activations.resources.progress
    title = f"{learner.title}epoch {epoch} of {recipe.epochs}"
    total, seen = torch.zeros((), device=device), 0

    model.train()
    first_step = learner.steps_per_epoch * (epoch - 1)
    for step, x in enumerate(show(batches, len(photographs), title), start=first_step):
        part = slice(seen, seen + len(x))
        if num_frozen:  # maps (N, C, H, W), nearly those of the mirrored photographs
            which = torch.from_numpy(mirrored[part]).to(device).view(-1, 1, 1, 1)
            x = torch.where(which, x.flip(3), x)
        labels, weight = targets[part], weights[part]
        if len(x) == 1:  # one photograph has no statistics for BatchNorm to normalise by
            model.freeze_statistics()
        with torch.autocast(device.type, precision, enabled=precision != torch.float32):
            logits = model(x, num_frozen)
        logits = logits.float() + learner.offset
        losses = F.cross_entropy(logits, labels, label_smoothing=SMOOTHING, reduction="none")
        learner.step((losses * weight).sum(), scaler, step)
        total += losses.detach() @ (weight > 0).float()
        seen += len(x)
        # An accelerator waits when one looks; several processes end their epoch together.
        statistics = processes.size == 1 and (device.type == "cpu" or step % 50 == 0)
        if statistics and not total.isfinite():
            break
        if time_is_up():
            return None
    processes.broadcast_weights(model, learner.network)
    count = len(learner.labels) * seen / len(learner.weights)
    return processes.add(total.cpu()).item() / count


def require_finite(epoch: int, *losses: float) -> None:
    """Raise RunError where a loss of the epoch is not finite."""
    if not all(map(math.isfinite, losses)):
        raise RunError(
            f"the loss of epoch {epoch} is not a finite number; try a lower --lr", can_go_on=False
        )


def share_of_new_views(epoch: int, views: int) -> float:
    """Return the expected share of photographs whose view, of so many, no epoch has seen before."""
    return (1 - 1 / views) ** epoch


def draw_epoch(learner: Learner, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw this process's part of an epoch, which depends on seed and epoch, on any device.

    Returns in their order the photographs, as indices among all of them, the number of the view of
    each, and whether it is mirrored: (n,) each.
    """
    processes, activations, count = learner.processes, learner.activations, len(learner.labels)
    rng = np.random.default_rng((learner.seed, epoch))
    order = rng.permutation(count)
    views = np.full(count, epoch)
    if activations.num_frozen:
        views = rng.integers(activations.num_views, size=count)
    mirrored = rng.random(count) < 0.5
    mine = np.flatnonzero(order % processes.size == processes.rank)
    mine = np.resize(mine, len(learner.weights))  # with one too few, one comes twice
    steps = learner.steps - learner.steps_per_epoch * (epoch - 1)  # the last epoch may be short
    mine = mine[: sum(learner.batch_sizes[:steps])]
    if processes.rank:  # dropout differs between processes
        torch.manual_seed(int(rng.integers(2**31)) + processes.rank)
    return order[mine], views[mine], mirrored[mine]


def divide(count: int, most: int) -> list[int]:
    """Divide photographs into batches of nearly equal size, at most `most`.

    A last batch of one or two would take a whole step, and BatchNorm its statistics from them.
    """
    batches = math.ceil(count / most)
    return [count * (i + 1) // batches - count * i // batches for i in range(batches)]


def sample_weights(count: int, batch_sizes: Sequence[int], rank: int, size: int) -> np.ndarray:
    """Weigh the losses of the photographs of one process in an epoch: float32 (n,).

    The processes' gradients are averaged; with these weights the average is the gradient of the
    mean loss of all photographs of a step. A process with one photograph less than others repeats
    one, of weight 0.
    """
    together = size * np.array(batch_sizes)
    surplus = together.sum() - count  # fewer than there are processes
    together[-1] -= surplus
    weights = np.repeat(size / together, batch_sizes).astype(np.float32)
    if rank >= size - surplus:
        weights[-1] = 0
    return weights


def lr_factor(step: int, steps: int) -> float:
    """Scale the learning rate: a linear warm-up for a tenth of the steps, then a cosine to 0."""
    warmup = steps / 10
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2


def restore_optimizer(
    optimizer: torch.optim.Optimizer, state: dict[int, dict[str, torch.Tensor]]
) -> None:
    """Load an optimizer's state from a file; raise InputError if it is of other parameters."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    try:
        if len(state) != len(parameters):
            raise ValueError("of other parameters")
        for i, parameter in enumerate(parameters):
            shapes = {"step": (), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}
            state[i] = {key: as_float(state[i][key], shape) for key, shape in shapes.items()}
    except (LookupError, TypeError, ValueError) as error:
        words = "the optimizer's state in last.pth is damaged"
        raise InputError(words, can_go_on=False) from error
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})

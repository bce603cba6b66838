"""The settings that decide the result of a training run.

Each is written once: its flag and help, the check of the command line, the check of last.pth and
the table in docs/reference.md all come from `Settings`.
"""

import argparse
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from running.errors import InputError
from running.flags import IMAGE_SIZE, Number, add_flag, file_name, widths
from running.recipe import (
    FINE_TUNING,
    FROM_SCRATCH,
    MOST_EPOCHS,
    RICH,
    SMALLEST_BATCH,
    Recipe,
    choose_recipe,
    with_batch_size,
)


def _setting(default: Any, check: Callable[[str], Any] | None = None, **flag: Any) -> Any:
    """Make a field with its default, the check of its values, and its flag."""
    few = {"most": MOST_EPOCHS, "smallest": SMALLEST_BATCH}
    recipes = {"fine": FINE_TUNING, "scratch": FROM_SCRATCH}
    flag["help"] = flag["help"].format(default=default, **few, **recipes)
    if check:
        flag["type"] = check
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: [*default], metadata=flag)
    return dataclasses.field(default=default, metadata=flag)


@dataclass(frozen=True)
class Settings:
    """The settings of a run; where None is left, `resolve_settings` fills in a value."""

    arch: str = _setting(
        "efficientnet_lite0",
        metavar="NAME",
        help="network: efficientnet_lite0, cnn or one of torchvision's, such as resnet50; help "
        "lists them (default: {default})",
    )
    weights: str | None = _setting(
        None,
        file_name,
        metavar="none|FILE",
        help="none: train from scratch; FILE: a state dict or a checkpoint to start from "
        "(default: ImageNet weights, where the network has some)",
    )
    hidden_units: list[int] = _setting(
        [],
        widths,
        metavar="N[,N...]",
        help="width of each hidden layer of the head, as in 512 or 512,256 (default: no hidden "
        "layer)",
    )
    tune: str | None = _setting(
        None,
        choices=("tail", "all"),
        help="which layers the epochs train: the last third, on cached activations of the frozen "
        "ones before; or all (default: tail for pretrained networks whose layers form a "
        "chain, else all)",
    )
    epochs: int | None = _setting(
        None,
        Number(int, 0, 10**6),
        metavar="N",
        help="passes over the photographs; 0: fit the head of a pretrained network and stop "
        "(default: {fine.epochs}, for few photographs up to {most}, from scratch "
        "{scratch.epochs})",
    )
    lr: float | None = _setting(
        None,
        Number(float, 0, 100, above=True, hint="0.001 is usual"),
        metavar="RATE",
        help="peak learning rate (default: {fine.lr} with batches of {fine.batch_size}, from "
        "scratch {scratch.lr} with {scratch.batch_size}; with other batch sizes in proportion "
        "to the square root)",
    )
    batch_size: int | None = _setting(
        None,
        Number(int, 1, 10**6),
        metavar="N",
        help="photographs in a training step, of all processes together (default: "
        "{fine.batch_size}, for few photographs down to {smallest}, from scratch a tenth of train, "
        "at most {scratch.batch_size})",
    )
    image_size: int | None = _setting(
        None,
        IMAGE_SIZE,
        metavar="PIXELS",
        help="side of the square that the network sees (default: the network's own)",
    )
    minutes: float | None = _setting(
        None,
        Number(float, 0, 10**5, above=True),
        metavar="N",
        help="choose --image_size and --epochs, unless given, so that the run ends in "
        "N minutes on this machine (default: no limit)",
    )
    seed: int = _setting(
        0,
        Number(int, 0, 2**63 - 1),
        metavar="N",
        help="the same seed on the same CPU gives the same network (default: {default})",
    )

    @classmethod
    def add_flags(cls, parser: argparse.ArgumentParser) -> None:
        """Add a flag for each setting; one that is not typed is None."""
        for field in dataclasses.fields(cls):
            others = ("learning_rate",) if field.name == "lr" else ()
            add_flag(parser, field.name, *others, **field.metadata)

    @classmethod
    def typed(cls, args: argparse.Namespace) -> dict[str, Any]:
        """Collect the settings that were typed."""
        names = [field.name for field in dataclasses.fields(cls)]
        return {name: getattr(args, name) for name in names if getattr(args, name) is not None}

    @classmethod
    def from_entries(cls, entries: dict[str, Any]) -> "Settings":
        """Read resolved settings from a last.pth; raise TypeError or ValueError if impossible."""
        settings = cls(**entries)
        for field in dataclasses.fields(cls):
            value, check = entries[field.name], field.metadata.get("type")
            if value is None and field.name in ("weights", "minutes"):
                continue
            if isinstance(check, Number):
                possible = check.holds(value)
            elif field.name == "hidden_units":
                possible = type(value) is list and all(type(n) is int and n > 0 for n in value)
            elif "choices" in field.metadata:
                possible = value in field.metadata["choices"]
            else:
                possible = type(value) is str
            if not possible:
                raise ValueError(f"{field.name} is impossible")
        return settings

    @property
    def recipe(self) -> Recipe:
        """How the epochs learn; of resolved settings."""
        assert self.epochs is not None and self.lr is not None and self.batch_size is not None
        return Recipe(self.epochs, self.lr, self.batch_size)


def resolve_settings(
    settings: Settings,
    image_size: int,
    pretrained: bool,
    has_tail: bool,
    photographs: int = RICH,
) -> Settings:
    """Fill in the settings that depend on the network; raise InputError if they do not go together.

    `image_size` is the side of the network's input; `pretrained` whether it starts from weights;
    `has_tail` whether its layers form a chain whose first ones can be frozen; `photographs` how
    many there are in train.
    """
    recipe = choose_recipe(photographs, pretrained)
    if settings.batch_size:
        recipe = with_batch_size(recipe, settings.batch_size)
    if settings.epochs == 0 and not pretrained:
        raise InputError(
            f"--epochs 0 would leave {settings.arch} untrained: it starts from scratch"
        )
    if settings.tune == "tail" and not has_tail:
        raise InputError(
            f"--tune tail: {settings.arch} as it is here has no tail; that needs a pretrained "
            "network whose layers form a chain"
        )
    missing = {
        **recipe._asdict(),
        "tune": "tail" if has_tail else "all",
    }
    return dataclasses.replace(
        settings,
        image_size=image_size,
        **{name: value for name, value in missing.items() if getattr(settings, name) is None},
    )


def resume_settings(typed: dict[str, Any], settings: Settings) -> Settings:
    """Take the settings of the run that is resumed; raise InputError if others are typed.

    Only more epochs may be asked for.
    """

    def spell(value: Any) -> str:
        if value is None:  # as weights and minutes may be
            return "the default"
        return ",".join(map(str, value)) if isinstance(value, list) else str(value)

    others = [
        f"--{name} {spell(value)}: the run that --resume continues has "
        f"{spell(getattr(settings, name))}"
        for name, value in typed.items()
        if value != getattr(settings, name) and (name != "epochs" or value < settings.recipe.epochs)
    ]
    if others:
        raise InputError("; ".join(others) + ". Leave it out, or start a new run without --resume")
    return dataclasses.replace(settings, **typed)

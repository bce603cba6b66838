"""running/settings.py"""

import math
from typing import Any, NamedTuple

from prediction.info import LARGEST_CROP, SMALLEST_CROP
from running.errors import InputError
from train import DEFAULT_ARCH

# What decides the result of a run, beside the photographs; None: see `settle`.
SETTINGS: dict[str, Any] = {
    "arch": DEFAULT_ARCH,
    "weights": None,
    "hidden_units": [],
    "tune": None,
    "epochs": None,
    "lr": None,
    "batch_size": None,
    "image_size": None,
    "seed": 0,
}


LIMITS = {
    "epochs": (0, 10**6),
    "batch_size": (1, 10**6),
    "image_size": (SMALLEST_CROP, LARGEST_CROP),
    "seed": (0, 2**63 - 1),
    "workers": (1, 1024),
}


HIGHEST_LR = 100


class Recipe(NamedTuple):
    """How the epochs learn, where the command line does not say otherwise."""

    epochs: int
    lr: float  # the highest, after warming up
    batch_size: int


FINE_TUNING = Recipe(epochs=5, lr=4e-4, batch_size=64)


FROM_SCRATCH = Recipe(epochs=13, lr=6e-3, batch_size=256)


def settle(settings: dict[str, Any], model, crop: int, pretrained: bool) -> dict[str, Any]:
    """Put numbers where the settings leave the choice to the network.

    Raises:
        InputError: they do not go together.
    """
    recipe = FINE_TUNING if pretrained else FROM_SCRATCH
    if settings["batch_size"]:  # Malladi et al., "On the SDEs and scaling rules for adaptive
        # gradient algorithms" (NeurIPS 2022): Adam's rate goes with the root of the batch size.
        recipe = recipe._replace(
            lr=recipe.lr * math.sqrt(settings["batch_size"] / recipe.batch_size)
        )
    settings = {
        **settings,
        "image_size": crop,
        **{field: value for field, value in recipe._asdict().items() if settings[field] is None},
    }
    arch = settings["arch"]
    if settings["epochs"] == 0 and not pretrained:
        raise InputError(f"--epochs 0 would leave {arch} untrained: it starts from scratch")
    if settings["tune"] == "tail" and not model.depths:
        raise InputError(
            f"--tune tail: {arch} as it is here has no tail; that takes a pretrained "
            "network whose layers form a chain"
        )
    if settings["tune"] is None:
        settings["tune"] = "tail" if model.depths and model.mean.device.type == "cpu" else "all"
    return settings


def settle_again(typed: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Take the settings of the run that goes on; only more epochs may be asked for.

    Raises:
        InputError: other settings are asked for, which would be another run.
    """
    wanted = {**settings, **typed}
    others = [
        name
        for name in SETTINGS
        if wanted[name] != settings[name] and (name != "epochs" or wanted[name] < settings[name])
    ]
    if others:

        def spell(value: Any) -> str:
            return ",".join(map(str, value)) if isinstance(value, list) else str(value)

        raise InputError(
            "; ".join(
                f"--{name} {spell(wanted[name])}: the run that --resume goes on with has "
                f"{spell(settings[name])}"
                for name in others
            )
            + ". Leave it out, or start anew without --resume"
        )
    return wanted

"""Where a run starts: at a new network, or where an earlier run stood."""

from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import torch

from formats.schema import Calibration, NetworkInfo, ValidMetrics
from images.decode import Preprocessing
from images.manifest import Manifest, count_changed
from learning.activations import Activations
from learning.features import FeatureCache, open_features
from learning.resources import Resources
from learning.resume import RunRecord, TrainingState, is_of_run, load_training
from learning.update import (
    Earlier,
    Load,
    changes_since,
    describe_start,
    find_earlier,
    has_broken_off,
    names_to_keep,
    with_new_head,
)
from network.checkpoint import new_model
from network.classifier import Classifier
from running.environment import versions
from running.errors import InputError
from running.run_folder import RunFolder
from running.settings import Settings, resolve_settings, resume_settings


class Start(NamedTuple):
    """What a run starts from."""

    model: Classifier  # on the device
    preprocessing: Preprocessing
    record: RunRecord  # its settings are resolved
    state: TrainingState | None  # where an earlier run stood, whose model this is
    info: NetworkInfo | None = None  # what the checkpoint knows that the run goes on from
    earlier: Earlier | None = None  # what an update goes on from
    features: FeatureCache = FeatureCache()  # that need not be computed again
    is_over: bool = False  # there is nothing to learn

    def describe(
        self,
        categories: list[str],
        names: list[str],
        calibration: Calibration,
        metrics: ValidMetrics,
        command: str,
    ) -> NetworkInfo:
        """Say what a checkpoint of the run is to know beside its weights."""
        return NetworkInfo(
            arch=self.record.settings.arch,
            preprocessing=self.preprocessing,
            categories=categories,
            names=names,
            calibration=calibration,
            metrics=metrics,
            seed=self.record.settings.seed,
            command=command,
            date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            versions=versions(),
        )

    @property
    def fits_head(self) -> bool:
        """Whether the head has to be fitted first: of a pretrained network in a new run."""
        return self.record.source is not None and self.state is None

    def with_features(self, path: Path, keeps: bool) -> "Start":
        """Open the file of features, where a later update will find them.

        `keeps`: whether they may be kept; they are where the body has not learned in this run.
        """
        recipe = self.record.settings.recipe
        serves = self.record.source is not None and (self.record.is_update or not recipe.epochs)
        keeps = keeps and serves and not self.has_learned
        features = open_features(path, self.model, self.preprocessing, keeps)
        return self._replace(features=features)

    def back_up(self, folder: RunFolder) -> Path | None:
        """Set the files of the run in a folder aside; those of an update that broke off go."""
        if not folder.writes:
            return None
        is_broken_off = self.earlier.later_has_state if self.earlier else has_broken_off(folder)
        return folder.back_up(is_broken_off)

    @property
    def has_learned(self) -> bool:
        """Whether the body, too, is not the one that the run had begun with."""
        return self.state is not None and self.state.epoch > 0

    @property
    def seen(self) -> Manifest | None:
        """Where photographs stood that are to stay in their splits, if any."""
        if self.earlier:
            return self.earlier.record.seen
        return self.record.seen if self.record.is_update else None

    def see_as(self, earlier: Earlier, valid_set: Activations) -> torch.Tensor:
        """Compute what the head of the run before an update sees of valid: (V, F)."""
        if not self.has_learned:
            return self.features.of(valid_set, "the earlier network")
        network = earlier.network.to(self.model.mean.device)
        activations = Activations(network, 0, valid_set.photographs)
        return FeatureCache().of(activations, "the earlier network")

    @property
    def names(self) -> dict[str, str]:
        """The names that categories have already, and keep."""
        if self.earlier:
            return names_to_keep(self.earlier, self.record)
        return dict(zip(self.info.categories, self.info.names)) if self.info else {}

    def take_photographs(self, found: str, num_valid: int, seen: Manifest) -> bool:
        """Note which photographs the run learns from, see `RunRecord.take_photographs`."""
        record = self.record
        if not record.take_photographs(found, num_valid, seen):
            return False
        if self.earlier and record.penalty:
            before, changes = self.earlier.record.seen, changes_since(self.earlier, record)
            changed = record.penalty.changed
            record.penalty = (before and changes) and record.penalty._replace(
                changed=changed + count_changed(before, seen, changes.renamed)
            )
        return True

    def describe_update(self) -> list[str]:
        """Say what an update finds, and what it does."""
        if self.is_over:
            return ["nothing has changed: the network stays as it is"]
        network = self.record.describe(self.preprocessing.crop)
        if self.earlier is None:  # it is resumed
            return [network]
        missing = self.features.count_missing()
        return [*describe_start(self.earlier, self.record, missing), network]

    def has_nothing_to_learn(self, photographs: str, epochs: int | None, folder: RunFolder) -> bool:
        """Tell whether an update finds nothing to learn, as it has been made already.

        Args:
            photographs: that there are: see `data_utils.fingerprint`.
            epochs: that were asked for. Then an update that has ended is made once more, but of
                one whose report is missing that is all there is to do.
            folder: of the run.
        """
        earlier = self.earlier
        if earlier is None or earlier.is_aside or earlier.record.photographs != photographs:
            return False
        lacks_report = earlier.record.is_update and not folder.has_report
        return epochs is None or (lacks_report and epochs == earlier.record.settings.epochs)

    def back_to_earlier(self, folder: RunFolder) -> "Start":
        """Start where the earlier run of the folder has ended; there is nothing to learn."""
        assert self.info is not None
        start = resume_run(folder, self.info, {}, len(self.info.categories), self.model.mean.device)
        return start._replace(features=self.features, is_over=True)

    @property
    def first_epoch(self) -> int:
        """The first epoch to come; 0 is the head."""
        if self.is_over:  # also where --minutes has broken off the last one
            return self.record.settings.recipe.epochs + 1
        if self.state:
            return self.state.epoch + 1
        return 0 if self.fits_head else 1


def start_new(
    settings: Settings,
    num_classes: int,
    side: int | None,
    device: torch.device,
    resources: Resources,
) -> Start:
    """Build the network of a new run, and resolve its settings.

    Args:
        settings: what was typed, and the defaults.
        num_classes: C, the number of categories.
        side: short side of the photographs in pixels, where it is known.
        device: for the network.
        resources: its primary process may download weights, before the others look for them.

    Raises:
        InputError: there is no such network, its weights are not available, or the settings do
            not go together.
    """
    if settings.minutes and resources.processes.size > 1:
        raise InputError("--minutes is for one process, and torchrun has started several")
    torch.manual_seed(settings.seed)
    with resources.processes.rank_zero_first():
        model, preprocessing, source = new_model(
            settings.arch,
            num_classes,
            settings.image_size,
            settings.hidden_units,
            settings.weights,
            side,
            resources.progress,
        )
    settings = resolve_settings(
        settings,
        preprocessing.crop,
        pretrained=source is not None,
        has_tail=bool(model.feature_layers),
    )
    return Start(model.to(device), preprocessing, RunRecord(settings, source), None)


def resume_run(
    folder: RunFolder,
    info: NetworkInfo,
    typed: dict[str, Any],
    num_classes: int,
    device: torch.device,
) -> Start:
    """Load the network of the run that goes on, and its settings.

    Args:
        folder: of the run.
        info: what the checkpoint in it knows.
        typed: settings that the command line names again, or epochs that extend the run.
        num_classes: C, the number of categories.
        device: for the network.

    Raises:
        InputError: a file is damaged, or other settings are asked for.
    """
    state, preprocessing, record = load_training(folder.resume_file, num_classes)
    if not is_of_run(info, state, record):
        raise InputError(
            f"{folder.checkpoint} is not the best network of the run in {folder.resume_file}; "
            "without --resume a new run starts"
        )
    record.has_ended |= record.is_finished
    record.settings = resume_settings(typed, record.settings)
    state.averaged.to(device)
    return Start(state.model.to(device), preprocessing, record, state, info)


def update_run(
    folder: RunFolder, load: Load, epochs: int, num_classes: int, device: torch.device
) -> Start:
    """Put a new head on the network of the run in a folder, whose photographs have changed.

    Args:
        folder: of the run.
        load: loads a checkpoint.
        epochs: that the new run has behind the head.
        num_classes: C, the number of categories there are now.
        device: for the network.

    Raises:
        InputError: there is no finished run, or a file is damaged.
    """
    earlier = find_earlier(folder, load)
    model, preprocessing, record = with_new_head(earlier, num_classes, epochs)
    return Start(model.to(device), preprocessing, record, None, earlier.info, earlier)

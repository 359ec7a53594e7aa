"""The config of MMDetection's wheel gives the model of the experiment that was written by hand."""

from __future__ import annotations

import pytest

from detcfg.config.diff import Difference, diff
from detcfg.interop.mmdet.experiment import import_config
from detcfg.interop.mmdet.read import read_config
from tests.support import figures, golden
from tests.support.experiments import NAMES, experiment
from tests.support.paths import MMDET_CONFIGS

NOT_COMPUTED = ("pretrained",)
"""Fields that say where weights come from, which goldens do without."""


@pytest.mark.skipif(
    not MMDET_CONFIGS.is_dir(), reason="MMDetection's configs are not here; nox -s zoo has them"
)
@pytest.mark.parametrize("name", [name for name in figures.model_names() if name in NAMES])
def test_the_imported_config_computes_what_the_experiment_computes(name: str) -> None:
    path = MMDET_CONFIGS / figures.model(name)["mmdet_config"]
    found = import_config(read_config(path, config_root=MMDET_CONFIGS))
    assert not [missing for missing in found.missing if missing.path.startswith("model")]
    model = found.experiment.resolved().model
    different = [d for d in diff(experiment(name).resolved().model, model) if not _means_nothing(d)]
    if not different:
        return  # equal configs compute the same
    built = golden.filled(golden.as_made(model))
    golden.check_state_dict(name, built)
    golden.check_detections(name, built)
    golden.check_losses(name, built)


def _means_nothing(difference: Difference) -> bool:
    if isinstance(difference.old, type) and isinstance(difference.new, type):
        return difference.old is difference.new or issubclass(difference.old, difference.new)
    return difference.path.rpartition(".")[2] in NOT_COMPUTED

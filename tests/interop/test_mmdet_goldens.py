"""The config of MMDetection's wheel gives the model of the experiment that was written by hand."""

from __future__ import annotations

import pytest

from detcfg import load_experiment
from detcfg.config.diff import Difference, diff
from detcfg.interop.mmdet.experiment import import_config
from detcfg.interop.mmdet.read import read_config
from tests.support import golden
from tests.support.paths import MMDET_CONFIGS
from tests.test_goldens import EXPERIMENTS, NAMES

NOT_COMPUTED = ("pretrained",)
"""Fields that say where weights come from, which goldens do without."""


@pytest.mark.skipif(
    not MMDET_CONFIGS.is_dir(), reason="MMDetection's configs are not here; nox -s zoo has them"
)
@pytest.mark.parametrize("name", [name for name in golden.names() if name in NAMES])
def test_the_imported_config_computes_what_the_experiment_computes(name: str) -> None:
    path = MMDET_CONFIGS / golden.golden(name)["mmdet_config"]
    found = import_config(read_config(path, config_root=MMDET_CONFIGS))
    assert not [missing for missing in found.missing if missing.path.startswith("model")]
    experiment = load_experiment(EXPERIMENTS / f"{name}.py").resolved()
    model = found.experiment.resolved().model
    different = [d for d in diff(experiment.model, model) if not _means_nothing(d)]
    if not different:
        return  # equal configs compute the same
    config = golden.as_made(model)
    golden.check_state_dict(name, config)
    built = golden.filled(config, name)
    golden.check_detections(name, built)
    golden.check_losses(name, built)


def _means_nothing(difference: Difference) -> bool:
    if isinstance(difference.old, type) and isinstance(difference.new, type):
        return difference.old is difference.new or issubclass(difference.old, difference.new)
    return difference.path.rpartition(".")[2] in NOT_COMPUTED

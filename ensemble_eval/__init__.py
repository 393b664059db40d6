"""Multi-crop evaluation of ensembles, as in *Going Deeper with Convolutions* (Szegedy et al., CVPR 2015).

The names below are the public API. They are imported when they are first used, so that
`import ensemble_eval` is instant and loads neither torch nor pandas.

>>> import ensemble_eval as ee
>>> ee.InputFormat.imagenet().mean
(0.485, 0.456, 0.406)
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ensemble_eval.datasets.items import Dataset as Dataset
    from ensemble_eval.datasets.opening import open_dataset as open_dataset
    from ensemble_eval.errors import EnsembleEvalError as EnsembleEvalError
    from ensemble_eval.errors import InputError as InputError
    from ensemble_eval.evaluation.api import evaluate as evaluate
    from ensemble_eval.evaluation.api import scores as scores
    from ensemble_eval.evaluation.finishing import Outcome as Outcome
    from ensemble_eval.members.ensemble import Ensemble as Ensemble
    from ensemble_eval.members.ensemble import Member as Member
    from ensemble_eval.members.imported import InputFormat as InputFormat
    from ensemble_eval.members.manifest import open_ensemble as open_ensemble
    from ensemble_eval.reports.api import Results as Results
    from ensemble_eval.reports.api import read_results as read_results

__version__ = "0.1.0"

_DEFINED_IN = {
    "Dataset": "datasets.items",
    "Ensemble": "members.ensemble",
    "EnsembleEvalError": "errors",
    "InputError": "errors",
    "InputFormat": "members.imported",
    "Member": "members.ensemble",
    "Outcome": "evaluation.finishing",
    "Results": "reports.api",
    "evaluate": "evaluation.api",
    "open_dataset": "datasets.opening",
    "open_ensemble": "members.manifest",
    "read_results": "reports.api",
    "scores": "evaluation.api",
}
__all__ = sorted(_DEFINED_IN)


def __getattr__(name: str) -> Any:
    """Import a name of the public API from the module that defines it (PEP 562)."""
    if name not in _DEFINED_IN:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_DEFINED_IN[name]}"), name)
    return value


def __dir__() -> list[str]:
    return ["__version__", *__all__]

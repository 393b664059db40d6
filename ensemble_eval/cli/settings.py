"""From parsed options to an evaluation's settings."""

from typing import Any

from ensemble_eval.errors import InputError
from ensemble_eval.settings import RunSettings


def settings_from(options: dict[str, Any]) -> RunSettings:
    """The settings that `options.evaluation_options` parsed.

    Raises:
        InputError: options that exclude each other.
    """
    scores, until_decided, top1 = (options.pop(name) for name in ("scores", "until_decided", "top1"))
    if until_decided and scores == "all":
        raise InputError("--until-decided knows decisions and no scores; leave out --scores all")
    if top1 and not until_decided:
        raise InputError("--top1 belongs to --until-decided; a full run has the top-1 columns anyway")
    decides = ((5, 1) if top1 else (5,)) if until_decided else ()
    return RunSettings(with_scores=scores != "none" and not until_decided, decides=decides, **options)

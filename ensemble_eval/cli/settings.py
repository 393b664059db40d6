"""From parsed options to an evaluation's settings."""

from typing import Any

from ensemble_eval.inputs import Settings


def settings_from(options: dict[str, Any]) -> Settings:
    """The settings that `options.evaluation_options` parsed."""
    with_scores = options.pop("scores") == "all"
    return Settings(with_scores=with_scores, **options)

"""What the numbers of a run allow to say, in sentences that are no stronger than their tests."""

from ensemble_eval.results.analyses import Analyses
from ensemble_eval.results.decisions import TOP_5, Configuration
from ensemble_eval.scoring.paired import PairedDifference
from ensemble_eval.tables.table import Column, counted_sentence, shown

_POINTS = Column("difference", "difference", "points")
_INTERVAL = Column("difference", "95% interval", "points interval")
_P = Column("p", "p", "p")


def claims(found: Analyses) -> list[str]:
    """Sentences on the whole table, on more crops, and on more models, each adjusted for all pairs of rows."""
    rows = found.configurations
    between = found.comparisons[TOP_5].between
    counted = [counted_sentence(found.counted)] if found.counted else []
    if not between:
        return [*counted, "There is one row, so nothing is compared."]
    pairs = {(each.base, each.other): each for each in between}
    schemes = len(found.decisions.crops)
    asked = {(0, len(rows) - 1): None}
    if schemes > 1:
        asked |= {(len(rows) - 2, len(rows) - 1): None}
    if len(rows) > schemes:
        asked |= {(schemes - 1, len(rows) - 1): None}
    sentences = [claim(pairs[pair], rows[pair[0]], rows[pair[1]]) for pair in asked]
    return [*counted, *sentences, _what_it_rests_on(found, len(between))]


def claim(found: PairedDifference, base: Configuration, other: Configuration) -> str:
    """One sentence on two rows.

    Args:
        found: how they differ.
        base, other: the rows.
    """
    difference = shown(found.difference_points, _POINTS)
    interval = shown((found.low_points, found.high_points), _INTERVAL)
    measured = (
        f"{difference} points of top-5 error, 95% interval {interval}; {found.fixed} images fixed, "
        f"{found.broken} broken; adjusted p {shown(found.adjusted_p, _P)}"
    )
    if found.is_different:
        small = f", but by less than {found.margin_points:g} points" if found.is_equal_within_margin else ""
        return f"{other} is {found.verdict} than {base}{small}: {measured}."
    if found.is_equal_within_margin:
        return f"{other} and {base} are {found.verdict_text}: {measured}."
    return f"{other} and {base} are not told apart, which does not make them equal: {measured}."


def _what_it_rests_on(found: Analyses, comparisons: int) -> str:
    adjusted = (
        f" Their p-values are adjusted for all {comparisons} pairs of rows, the intervals are not."
        if comparisons > 1
        else ""
    )
    return (
        f"These sentences are about {len(found.decisions.images)} images and these weights.{adjusted} The member "
        "that stands for one model was chosen on the same images, by the paper's rule, which flatters it."
    )

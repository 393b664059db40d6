"""The findings of a report in sentences: one for the whole run, and one for each question. All are about top-5."""

from ensemble_eval.errors import first_names
from ensemble_eval.results.analyses import Analyses
from ensemble_eval.results.class_tables import ClassNames, class_name
from ensemble_eval.results.crop_study import CropStudy
from ensemble_eval.scoring.paired import PairedDifference
from ensemble_eval.scoring.table3 import TOP_5, Configuration, table3
from ensemble_eval.tables.table import in_words, shown

# With fewer images, the second decimal of a percentage says nothing.
_IMAGES_FOR_TWO_DECIMALS = 10_000


def main_finding(found: Analyses) -> str:
    """The last row of Table 3 against the first, with the interval and the verdict."""
    rows, images = found.configurations, len(found.decisions.images)
    if len(rows) == 1:
        [row] = table3(found.decisions)
        return (
            f"{_start(_named(rows[0]))} {_makes(rows[0], 'has', 'have')} a top-5 error of "
            f"{_percent(row.top5_wrong, images)} on {in_words(images, 'image')} (95% interval "
            f"{row.top5_low:.1f} to {row.top5_high:.1f}%)."
        )
    pair, last = found.comparisons[TOP_5].against_base[-1], rows[-1]
    return (
        f"{_start(_named(last))} {_makes(last, 'makes', 'make')} {_relation(pair)} {_named(rows[0])}: "
        f"{_percent(pair.other_wrong, pair.images)} against {_percent(pair.base_wrong, pair.images)}, a "
        f"difference of {_difference(pair)}. {_start(verdict(pair))}{_power(pair)}."
    )


def crops_finding(found: Analyses, study: CropStudy | None) -> str:
    """All models with the largest scheme against the smallest one."""
    rows, schemes = found.configurations, found.decisions.crops
    if len(schemes) == 1:
        return "The run has one number of crops, so it does not show whether more crops help."
    pair = _between(found, len(rows) - len(schemes), len(rows) - 1)
    return (
        f"With {_models(rows[-1])}, {in_words(schemes[-1], 'crop')} instead of {in_words(schemes[0], 'crop')} "
        f"change the top-5 error by {_difference(pair)}; {verdict(pair)}{_enough(study)}."
    )


def _enough(study: CropStudy | None) -> str:
    if study is None:
        return ""
    enough = study.enough_crops(TOP_5).crops
    if enough == study.crops:
        return ", and the error keeps falling up to the last crop"
    return f", and going beyond {in_words(enough, 'crop')} brings no significant improvement"


def models_finding(found: Analyses) -> str:
    """All models against one model, both with the largest scheme."""
    rows, schemes = found.configurations, found.decisions.crops
    if len(rows) == len(schemes):
        return "The run has one model, so it does not show whether more models help."
    pair = _between(found, len(schemes) - 1, len(rows) - 1)
    return (
        f"With {in_words(schemes[-1], 'crop')} per image, {_models(rows[-1])} instead of one change the top-5 "
        f"error by {_difference(pair)}; {verdict(pair)}."
    )


def members_finding(found: Analyses) -> str:
    """The member whose removal costs the ensemble most; without scores, the errors of the members alone."""
    names, crops = found.decisions.members, found.decisions.crops[-1]
    ensembles = found.ensembles.get((TOP_5, crops))
    with_crops = f"with {in_words(crops, 'crop')}"
    if len(names) == 1:
        return f"The run has one member, {names[0]}."
    if ensembles is None:
        low, high = found.members[TOP_5, crops].one_model.range_percent
        return f"{_start(with_crops)}, the top-5 errors of single members range from {low:.2f}% to {high:.2f}%."
    largest = max(ensembles.leave_one_out, key=lambda each: each.difference_points)
    if largest.difference_points <= 0:
        return f"Leaving out any one member does not raise the top-5 error of the ensemble {with_crops}."
    equal = [each for each in ensembles.leave_one_out if each.difference_points == largest.difference_points]
    most = first_names([names[each.other - 1] for each in equal])
    return (
        f"{most} contribute{'s' if len(equal) == 1 else ''} most: without {names[largest.other - 1]}, the top-5 "
        f"error of the ensemble {with_crops} changes by {_difference(largest)}; {verdict(largest)}."
    )


def calibration_finding(found: Analyses) -> str:
    """Confidence against accuracy in the last row; empty if the run stores no scores."""
    row = found.configurations[-1]
    if (curve := found.reliabilities.get(row)) is None:
        return ""
    points = 100 * (curve.mean_confidence - curve.accuracy)
    direction = f"{'overconfident' if points > 0 else 'underconfident'} by {abs(points):.1f} points"
    direction = direction if round(points, 1) else "calibrated"
    fit = found.temperatures.get(row)
    after = (
        f"; a temperature of {fit.temperature:.2f} changes that error to "
        f"{fit.cross_fitted.expected_calibration_error:.3f} (cross-fitted)"
        if fit and fit.cross_fitted
        else ""
    )
    return (
        f"{_start(_named(row))} {_makes(row, 'is', 'are')} {direction} on average: "
        f"the mean confidence is {100 * curve.mean_confidence:.1f}%, the top-1 accuracy "
        f"{100 * curve.accuracy:.1f}%, and the expected calibration error "
        f"{curve.expected_calibration_error:.3f}{after}."
    )


def classes_finding(found: Analyses, names: ClassNames) -> str:
    """The number of images that the last row gets wrong, and the most frequent confusion."""
    row = found.configurations[-1]
    wrong, images = int(found.decisions.outcomes(row, TOP_5).sum()), len(found.decisions.images)
    confused, confusion = found.classes.confused or (), ""
    # One image alone is no pattern.
    if confused and (first := confused[0]).images > 1:
        is_alone = len(confused) == 1 or confused[1].images < first.images
        confusion = (
            f"; {'the most frequent confusion' if is_alone else 'one of the most frequent confusions'} is "
            f"{class_name(names, first.label)} mistaken for {class_name(names, first.answered)} ({first.images} "
            f"of its {first.images_of_label} images)"
        )
    return (
        f"{_start(_named(row))} {_makes(row, 'makes', 'make')} a top-5 error on {wrong:,} of "
        f"{in_words(images, 'image')}{confusion}."
    )


def verdict(pair: PairedDifference) -> str:
    """The conclusion on two rows as a clause, no stronger than the adjusted tests."""
    if pair.is_different:
        small = f" and smaller than {pair.margin_points:g} points" if pair.is_equal_within_margin else ""
        return f"the difference is significant{small} ({_p(pair.adjusted_p)})"
    if pair.is_equal_within_margin:
        return f"the two are equal within {pair.margin_points:g} points ({_p(pair.adjusted_equivalence_p)})"
    return f"the two cannot be told apart on {in_words(pair.images, 'image')} ({_p(pair.adjusted_p)})"


def _power(pair: PairedDifference) -> str:
    """The difference that this many images would detect, for two rows that cannot be told apart."""
    if pair.is_different or pair.is_equal_within_margin:
        return ""
    if pair.detectable_points is None:
        differ = pair.fixed + pair.broken
        few = ", too few to detect a difference reliably" if differ else ""
        return f"; their outcomes differ on {in_words(differ, 'image')}{few}"
    return f"; this many images detect a difference of {pair.detectable_points:.1f} points in 80% of cases"


def _between(found: Analyses, base: int, other: int) -> PairedDifference:
    return next(each for each in found.comparisons[TOP_5].between if (each.base, each.other) == (base, other))


def _named(row: Configuration) -> str:
    return f"{_models(row)} with {in_words(row.crops, 'crop')}"


def _models(row: Configuration) -> str:
    return in_words(row.models, "model")


def _makes(row: Configuration, singular: str, plural: str) -> str:
    return singular if row.models == 1 else plural


def _start(words: str) -> str:
    return words[:1].upper() + words[1:]


def _relation(pair: PairedDifference) -> str:
    if pair.other_wrong == pair.base_wrong:
        return "as many top-5 errors as"
    more = "more" if pair.other_wrong > pair.base_wrong else "fewer"
    if not pair.base_wrong:
        return f"{more} top-5 errors than"
    share = 100 * abs(pair.other_wrong - pair.base_wrong) / pair.base_wrong
    return f"{f'{share:.0f}%' if share >= 1 else 'less than 1%'} {more} top-5 errors than"


def _percent(wrong: int, images: int) -> str:
    return f"{100 * wrong / images:.{_decimals(images)}f}%"


def _difference(pair: PairedDifference) -> str:
    difference, low, high = (
        _signed(each, _decimals(pair.images))
        for each in (pair.difference_points, pair.low_points, pair.high_points)
    )
    return f"{difference} points (95% interval {low} to {high})"


def _signed(points: float, decimals: int) -> str:
    text = f"{points:+.{decimals}f}".replace("-", "\N{MINUS SIGN}")
    return text if float(f"{points:.{decimals}f}") else text[1:]


def _decimals(images: int) -> int:
    return 1 if images < _IMAGES_FOR_TWO_DECIMALS else 2


def _p(value: float) -> str:
    text = shown(value, "p")
    return f"adjusted p {text}" if text.startswith("<") else f"adjusted p = {text}"

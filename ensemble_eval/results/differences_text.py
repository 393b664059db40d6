"""Paired differences as cells of a table and as sentences. Pure functions, compared with == in the tests."""

from ensemble_eval.scoring.paired import PairedDifference

DIFFERENCE_HEADER = (
    "errors",
    "fixed",
    "broken",
    "difference",
    "95% interval",
    "bootstrap",
    "McNemar p",
    "adjusted p",
    "verdict",
)


def difference_cells(difference: PairedDifference) -> list[str]:
    """The cells below `DIFFERENCE_HEADER`: errors in percent, differences in percentage points.

    Example:
        `difference_cells(paired_differences(wrong, [(0, 1)])[0])`
    """
    bootstrap = (difference.bootstrap_low_points, difference.bootstrap_high_points)
    return [
        f"{_percent(difference.base_wrong, difference)} to {_percent(difference.other_wrong, difference)}",
        str(difference.fixed),
        str(difference.broken),
        signed(difference.difference_points),
        f"{signed(difference.low_points)} to {signed(difference.high_points)}",
        "–" if None in bootstrap else " to ".join(signed(bound) for bound in bootstrap if bound is not None),
        p_value(difference.mcnemar_p),
        p_value(difference.adjusted_p),
        difference.verdict_text,
    ]


def signed(points: float) -> str:
    """A difference in percentage points with its sign; what rounds to zero has none.

    Example:
        >>> signed(-1.234), signed(0.5), signed(-0.001)
        ('-1.23', '+0.50', '0.00')
    """
    rounded = round(points, 2)
    return f"{rounded:+.2f}" if rounded else "0.00"


def p_value(p: float) -> str:
    """A p-value with as many digits as matter.

    Example:
        >>> p_value(0.0421), p_value(3e-9), p_value(1.0)
        ('0.042', '<0.001', '1')
    """
    return "<0.001" if p < 0.001 else f"{p:.2g}"


def comparisons_text(comparisons: int, margin_points: float) -> str:
    """One sentence on how the verdicts of some comparisons were found."""
    adjusted = f"adjusted by Holm over the {comparisons} rows" if comparisons > 1 else "of the one row"
    return (
        f"better and worse by the exact McNemar test at 5%, equal within {margin_points:g} points by two "
        f"one-sided tests at 5%, both {adjusted}; 95% intervals are Tango's score intervals, paired by image"
    )


def _percent(wrong: int, difference: PairedDifference) -> str:
    return f"{100 * wrong / difference.images:.2f}%"

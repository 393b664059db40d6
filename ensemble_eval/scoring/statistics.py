"""Intervals at 95% for errors and for their differences. Pure numpy."""

import math

import numpy as np
from numpy.typing import NDArray

# The 97.5% quantile of the normal distribution: two-sided intervals at 95%.
_Z95 = 1.959963984540054


def error_interval_percent(wrong: int, images: int) -> tuple[float, float]:
    """Wilson's 95% score interval of an error rate, in percent (E. B. Wilson, JASA 22, 1927).

    Args:
        wrong: images decided wrongly.
        images: all images, at least one.

    Example:
        >>> low, high = error_interval_percent(wrong=10, images=100)
        >>> f"{low:.1f} to {high:.1f}"
        '5.5 to 17.4'
    """
    rate = wrong / images
    spread = _Z95 * math.sqrt(rate * (1 - rate) / images + (_Z95 / (2 * images)) ** 2)
    scale = 1 + _Z95**2 / images
    centre = rate + _Z95**2 / (2 * images)
    # At the ends the bounds are exact, and rounding must not move them.
    low = 0.0 if wrong == 0 else 100 * (centre - spread) / scale
    high = 100.0 if wrong == images else 100 * (centre + spread) / scale
    return low, high


def paired_difference_interval_percent(
    base_wrong: NDArray[np.bool_], other_wrong: NDArray[np.bool_]
) -> tuple[float, float]:
    """95% interval of the difference of two error rates on the same images, in percentage points.

    Negative means that `other` is better. This is the adjusted Wald interval for matched pairs of Agresti
    and Min (Statistics in Medicine 24, 2005), which adds half an image to each of the four outcomes.

    Args:
        base_wrong: [images].
        other_wrong: [images], in the same order.
    """
    images = len(base_wrong) + 2
    lost = np.count_nonzero(other_wrong & ~base_wrong) + 0.5
    won = np.count_nonzero(base_wrong & ~other_wrong) + 0.5
    difference = (lost - won) / images
    spread = _Z95 * math.sqrt((lost + won) - (lost - won) ** 2 / images) / images
    return 100 * (difference - spread), 100 * (difference + spread)

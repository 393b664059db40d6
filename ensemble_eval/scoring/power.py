"""The smallest difference of two error rates that the exact McNemar test finds with a number of images."""

import numpy as np

from ensemble_eval.errors import needing_extra

POWER = 0.8
# Shares of discordant images for which tables give the power.
DISCORDANT_SHARES = (0.02, 0.05, 0.1)
LEVEL = 0.05
# The probability, on each side, of the numbers of discordant images that the sum leaves out.
_IGNORED = 1e-9


def detectable_points(images: int, discordant_share: float, comparisons: int = 1) -> float | None:
    """Return the smallest difference that the test finds in 80% of samples, in percentage points.

    The power is exact: the number of discordant images, which one row alone gets wrong, is binomial, and so is the
    number of these that the base gets wrong. With several comparisons the test has the level of the first step of
    Holm's method, 5% divided by their number. Whatever the other comparisons show, the power is then at least 80%.

    Args:
        images: The number of images.
        discordant_share: The share of images that exactly one of the two rows gets wrong, in the population.
        comparisons: The number of comparisons that are adjusted for.

    Returns:
        The difference; None if not even the largest one, the share itself, is found that often.

    Raises:
        InputError: SciPy (the extra `[report]`) is not installed.

    Example:
        >>> round(detectable_points(50_000, 0.05), 2), detectable_points(100, 0.05)
        (0.28, None)
    """
    with needing_extra("report"):
        from scipy.optimize import brentq
        from scipy.stats import binom

    least, most = binom.ppf(np.array([_IGNORED, 1 - _IGNORED]), images, discordant_share)
    discordant = np.arange(least, most + 1)
    weights = binom.pmf(discordant, images, discordant_share)
    # The test rejects if at most this many of them are on the rarer side; -1 if it cannot reject.
    critical = binom.ppf(LEVEL / comparisons / 2, discordant, 0.5) - 1

    def missing_power(share_of_base: float) -> float:
        rejects = binom.cdf(critical, discordant, share_of_base)
        rejects += binom.sf(discordant - critical - 1, discordant, share_of_base)
        return POWER - float(weights @ rejects)

    if missing_power(1.0) > 0:
        return None
    return 100 * discordant_share * (2 * float(brentq(missing_power, 0.5, 1, xtol=1e-7)) - 1)

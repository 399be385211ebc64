"""Statistics for attacks: how sure one may be that an adversary did better than chance."""

import math
from statistics import NormalDist

Z = NormalDist().inv_cdf(0.995)
"""Of a two-sided interval of 99 %."""


def interval(hits, tries):
    """Wilson's interval of 99 % for a chance of which `hits` of `tries` were seen."""
    share, spread = hits / tries, Z * Z / tries
    middle = (share + spread / 2) / (1 + spread)
    half = Z / (1 + spread) * math.sqrt(share * (1 - share) / tries + spread / (4 * tries))
    return middle - half, middle + half


def chi_square_p(seen, shares):
    """The chance of counts as far from `shares` as `seen`, or farther (Pearson's test)."""
    total = sum(seen)
    distance = sum(
        (count - total * share) ** 2 / (total * share)
        for count, share in zip(seen, shares, strict=True)
    )
    return _upper_gamma((len(seen) - 1) / 2, distance / 2)


def _upper_gamma(a, x):
    """The regularised upper incomplete gamma function, by the series of the lower one."""
    if x > a + 40 * math.sqrt(a) + 40:
        return 0.0  # below what a float of 1 minus something can tell
    term = total = 1 / a
    step = a
    while term > total * 1e-15 and step < a + 10_000:
        step += 1
        term *= x / step
        total += term
    log_lower = a * math.log(x) - x - math.lgamma(a) if x else -math.inf
    return max(0.0, 1 - total * math.exp(log_lower))


def mann_whitney_p(left, right):
    """Two-sided p that two samples are of one distribution, by their ranks (ties corrected)."""
    both = sorted([*left, *right])
    first, count = {}, {}
    for rank, value in enumerate(both, 1):
        first.setdefault(value, rank)
        count[value] = count.get(value, 0) + 1
    ranks = sum(first[value] + (count[value] - 1) / 2 for value in left)
    n, m = len(left), len(right)
    ties = sum(each**3 - each for each in count.values()) / ((n + m) * (n + m - 1))
    spread = math.sqrt(n * m / 12 * (n + m + 1 - ties))
    away = abs(ranks - n * (n + m + 1) / 2)
    return 1.0 if not spread else 2 * NormalDist().cdf(-away / spread)

"""What printed accuracies give away alone: of how many examples they are, in which unit, and of what classifier."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from fedlens.diagnosis.evidence import Log

CHANCE = 1e-6  # a size is named only where numbers at random would fit it more seldom
LARGEST = 100_000  # examples
OFTEN = 0.3  # share of rounds from which a repeated 1/c is a constant classifier's
TAIL = 5  # digits that different values share, beyond what the number of pairs makes likely
LAST = 10  # values whose noise and mean are taken

Values = Sequence[float]


def examine_log(
    values: Values,
    *,
    printed: Sequence[str] | None = None,
    claimed: int | None = None,
    classes: int | None = None,
    priors: Sequence[Values] | None = None,
) -> Log:
    """What `values`, one a round, say of themselves; `printed` as they stood, `claimed` the size of their test set.

    `priors`: class shares of evaluation sets that the values may be of. Slopes, noise, `last`, `best` and `mean_last`
    are in the unit of the values, `priors` of the answer in fractions.
    """
    shown = [repr(float(value)) for value in values] if printed is None else list(printed)
    finite = [(value, text) for value, text in zip(values, shown, strict=True) if math.isfinite(value)]
    kept, texts = [value for value, _ in finite], [text for _, text in finite]
    scale, whole = _scale(kept, texts, claimed, classes)
    unit = 100.0 if scale == "percent" else whole if scale == "count" and whole else 1.0
    shares, error = [value / unit for value in kept], precision(kept, texts) / unit
    n = quantum(shares, error, claimed) if scale != "count" else None
    constant, matched = _constant(shares, error, n, classes, priors)
    slope, slope_error = _trend(kept)
    return Log(
        values=tuple(float(value) for value in values),
        claimed=claimed,
        n=n,
        scale=scale,
        scale_max=whole,
        flat=len(kept) > 2 and len(set(kept)) == 1,
        constant=constant,
        priors=matched,
        digits=max((_significant(text) for text in texts), default=0),
        tails=_tails(kept, texts) if n is None and _parts(kept, precision(kept, texts)) is None else (),
        rising=slope,
        rising_error=slope_error,
        noise=_noise(kept),
        last=kept[-1] if kept else None,
        best=max(kept, default=None),
        mean_last=float(np.mean(kept[-LAST:])) if kept else None,
        collapsed=tuple(at for at, value in enumerate(values, 1) if not math.isfinite(value)),
        chance=1.0 / classes if classes else None,
        duplicated=_duplicated(kept),
    )


def precision(values: Values, printed: Sequence[str] | None = None) -> float:
    """How far the numbers may be from what they stand for: half of the last decimal, or what their float type keeps."""
    texts = [repr(float(value)) for value in values] if printed is None else printed
    decimals = max((_decimals(text) for text in texts), default=0)
    largest = max((abs(value) for value in values), default=1.0)
    single = all(float(np.float32(value)) == value for value in values)
    return max(0.5000001 * 10.0**-decimals, (2e-7 if single else 1e-15) * max(largest, 1e-3))


def quantum(shares: Values, error: float, claimed: int | None = None) -> int | None:
    """The smallest n of which all `shares`, known within `error`, are whole numbers of n-ths (M24).

    None where none is, or where so many sizes fit that numbers at random would too. A part of `claimed` is named only
    where values of the whole set would hardly ever all be values of that part.
    """
    distinct = np.unique([share for share in shares if 0 < share < 1])
    if len(distinct) == 0 or any(share < -error or share > 1 + error for share in shares):
        return None
    whole = claimed if claimed and bool(_fits(distinct, error, np.array([claimed]))[0]) else None
    sizes = np.arange(2, min(LARGEST, int(0.5 / error)) + 1)
    if len(sizes) == 0:
        return whole
    seldom = np.cumsum(np.minimum(1.0, 2 * sizes * error) ** len(distinct)) < CHANCE
    sizes = sizes[seldom]
    for some in np.array_split(sizes, max(1, len(sizes) * len(distinct) // 500_000)):
        if len(fitting := some[_fits(distinct, error, some)]):
            found = _exactest(distinct, error, int(fitting[0]))
            if whole and (found is None or (found < whole and not _smaller(found, whole, len(distinct)))):
                return whole
            return found
    return whole


def _exactest(shares: np.ndarray, error: float, first: int) -> int | None:
    """The size from `first` to 5 % above that fits; of several the one that fits without any rounding, else none."""
    near = np.arange(first, first + first // 20 + 1)
    near = near[_fits(shares, error, near)]
    exact = near[_fits(shares, 1e-12, near)]
    return int(near[0]) if len(near) == 1 else int(exact[0]) if len(exact) else None


def _fits(shares: np.ndarray, error: float, sizes: np.ndarray) -> np.ndarray:
    """[sizes]: whether all `shares` are whole numbers of n-ths."""
    products = shares[:, None] * sizes[None, :]
    fits: np.ndarray = (np.abs(products - np.round(products)) <= sizes[None, :] * error + 1e-9).all(axis=0)
    return fits


def _smaller(found: int, whole: int, distinct: int) -> bool:
    """Whether values of `whole` examples would hardly ever all be values of `found` or fewer."""
    ratio = whole / found
    return distinct > 1 and ratio ** (1 - distinct) * whole / (distinct - 1) < CHANCE * found * ratio


def _scale(values: Values, texts: Sequence[str], claimed: int | None, classes: int | None) -> tuple[str, float | None]:
    """The unit of the values, and for counts the value that would be perfect, where it can be told."""
    top = max(values, default=0.0)
    if any("%" in text for text in texts):
        return "percent", 100.0
    if top <= 1.0 + 1e-6:
        return "fraction", 1.0
    parts = _parts(values, precision(values, texts))
    if claimed and parts and parts > 1 and _batch(claimed, parts) and top <= claimed / parts + 1:
        return "count", claimed / parts
    hopeless = classes is not None and len(values) > 2 and top < 0.4 * 100 / classes
    if top <= 100.0 + 1e-6 and not hopeless:
        return "percent", 100.0
    if all(float(value).is_integer() for value in values):
        return "count", float(claimed) if claimed and top <= claimed else None
    return "count", 2.0 ** math.ceil(math.log2(top)) if parts else None


def _parts(values: Values, error: float) -> int | None:
    """The number of batches that the values are means of counts over; None where no small one explains them."""
    left = np.unique([value % 1 for value in values if 0 < value % 1 < 1])
    sizes = np.arange(2, min(1000, max(2, int(0.5 / error))) + 1)
    if len(left) < 2:
        return None
    fitting = sizes[_fits(left, error, sizes) & (np.minimum(1.0, 2 * sizes * error) ** len(left) * sizes < CHANCE)]
    return int(fitting[0]) if len(fitting) else None


def _batch(claimed: int, parts: int) -> bool:
    """Whether `claimed` examples make `parts` batches of a usual size."""
    usual = (8, 10, 16, 20, 25, 32, 50, 64, 100, 128, 200, 250, 256, 500, 512, 1000, 1024)
    return any(parts in (math.ceil(claimed / size), claimed // size) for size in usual)


def _constant(
    shares: Values, error: float, n: int | None, classes: int | None, priors: Sequence[Values] | None
) -> tuple[float, tuple[float, ...]]:
    """The share of rounds whose value is a constant classifier's, and which values those are."""
    grain = max(2 * error, 1 / n if n else 0.0)
    candidates = []
    if priors is not None:
        known = sorted({round(float(p), 12) for row in priors for p in row if 0 < p < 0.9})
        candidates.append(known if len(known) * grain < OFTEN / 2 else [])
    elif classes:
        candidates.append([times / classes for times in (1, 2, 3) if times == 1 or times / classes <= 0.5])
    if priors is None:
        repeated = [share for share, count in Counter(shares).items() if count >= max(3, OFTEN * len(shares))]
        nearest = [(share, 1 / max(2, round(1 / share))) for share in repeated if 0.01 <= share < 1]
        candidates += [[one] for share, one in nearest if abs(share - one) <= min(error, 0.005) + 1e-9]
        candidates += [_coarse(shares, error, n)]
    best: tuple[float, tuple[float, ...]] = (0.0, ())
    for some in candidates:
        hits = [p for share in shares for p in some if abs(share - p) <= error + 1e-7]
        found = len(hits) / max(1, len(shares))
        if len(hits) >= 2 and found > best[0] and (grain <= 0.01 or found == 1.0):
            best = min(1.0, found), tuple(sorted(set(hits)))
    return best


def _coarse(shares: Values, error: float, n: int | None) -> list[float]:
    """Multiples of 1/q below a half on which far more values lie than values of that precision would."""
    changed = [share for at, share in enumerate(shares) if at == 0 or share != shares[at - 1]]
    low = np.array([share for share in changed if 0 < share <= 0.5])
    if len(low) < 5 or len(low) < len(changed) / 2:
        return []
    chances = {}
    for q in (10, 20, 50, 100):
        usual = min(1.0, q * max(2 * error, 1 / n if n else 0.0))
        on = int((np.abs(low * q - np.round(low * q)) <= q * error + 1e-7).sum())
        if usual < 0.1 and on < len(low):
            chances[q] = _tail(len(low), on, usual)
    q = min(chances, key=lambda q: chances[q], default=0)
    return [k / q for k in range(1, q // 2 + 1)] if q and chances[q] < CHANCE else []


def _tail(trials: int, hits: int, chance: float) -> float:
    """The chance of `hits` or more in `trials`."""
    return sum(math.comb(trials, k) * chance**k * (1 - chance) ** (trials - k) for k in range(hits, trials + 1))


def _decimals(text: str) -> int:
    mantissa, _, exponent = text.strip().rstrip("%").lower().partition("e")
    return max(0, len(mantissa.partition(".")[2]) - int(exponent or 0))


def _significant(text: str) -> int:
    """Significant digits; 17 where more of them are only the number's binary value written out."""
    number = text.strip().rstrip("%").lower()
    digits = number.partition("e")[0].lstrip("+-").replace(".", "").lstrip("0")
    written_out = len(digits) > 17 and "e" not in number and f"{float(number):.{_decimals(number)}f}" == number
    return 17 if written_out else len(digits)


def _tails(values: Values, texts: Sequence[str]) -> tuple[str, ...]:
    """Endings of the long decimals of different values that are the same, and longer than chance makes them."""
    long = {text: value for value, text in zip(values, texts, strict=True) if _significant(text) >= 12}
    pairs = list(combinations(sorted(long), 2))
    length = TAIL + math.ceil(math.log10(max(10, len(pairs))))
    shared = {a[-length:] for a, b in pairs if a[-length:] == b[-length:] and long[a] != long[b]}
    return tuple(sorted(tail for tail in shared if "." not in tail and len(set(tail)) > 2))


def _trend(values: Values) -> tuple[float | None, float | None]:
    """The slope of the last fifth, five values at least, and its standard error, wider where neighbours go together."""
    some = np.array(values[-max(5, len(values) // 5) :])
    if len(some) < 5:
        return None, None
    at = np.arange(len(some)) - (len(some) - 1) / 2
    slope = float(at @ some / (at @ at))
    rest = some - some.mean() - slope * at
    spread = float(rest @ rest)
    together = min(0.9, max(0.0, float(rest[1:] @ rest[:-1]) / spread)) if spread > 0 else 0.0
    error = math.sqrt(spread / (len(some) - 2) / float(at @ at) * (1 + together) / (1 - together))
    return slope, error


def _noise(values: Values) -> float | None:
    """The standard deviation of the last ten around their line."""
    some = np.array(values[-LAST:])
    if len(some) < 4:
        return None
    at = np.arange(len(some))
    rest = some - np.polyval(np.polyfit(at, some, 1), at)
    return float(math.sqrt(rest @ rest / (len(some) - 2)))


def _duplicated(values: Values) -> bool:
    """Whether the second half of the values is the first once more."""
    half = len(values) // 2
    return half >= 3 and len(set(values)) > 2 and list(values[:half]) == list(values[half : 2 * half])

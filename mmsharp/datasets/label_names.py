"""Names of classes by which their values can be told apart."""

from collections import Counter
from collections.abc import Sequence


def label_names(classes: Sequence[str], count: int | None = None) -> list[str]:
    """One name per label, no two the same.

    Args:
        classes: The names that a data set gives its classes, in the order of the labels; ImageNet has ``crane`` twice.
        count: How many labels there are; as many as names where it is ``None``.

    Returns:
        The names. Where several classes have one, the label stands behind it; a label without a name is its own.

    Example:
        >>> label_names(['crane', 'dog', 'crane'])
        ['crane (0)', 'dog', 'crane (2)']
        >>> label_names([], 2)
        ['0', '1']
    """
    given = [str(name) for name in classes]
    count = len(given) if count is None else count
    given = [*given[:count], *(str(label) for label in range(len(given), count))]
    counts = Counter(given)
    return [f'{name} ({label})' if counts[name] > 1 else name for label, name in enumerate(given)]

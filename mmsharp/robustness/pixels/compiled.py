"""Compile loops with numba, once per machine where its cache can be written and once per process elsewhere.

Signatures are given, so a function is compiled (or read from the cache) where its module is imported: before data
loading workers are forked, never in the middle of an epoch. No fast-math and no contraction: the same processor family
gives the same bits. Where neither the package's folder nor the user's cache folder can be written, numba refuses to
cache; then it compiles without. ``NUMBA_CACHE_DIR`` names another folder.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numba

Function = TypeVar('Function', bound=Callable[..., Any])


def compiled(*signatures: str) -> Callable[[Function], Function]:
    """Decorate a loop over arrays with ``numba.njit`` for the given signatures.

    Example:
        >>> @compiled('int64(int64)')
        ... def double(number):
        ...     return number * 2
        >>> double(4)
        8
    """

    def decorate(function: Function) -> Function:
        options = {'nogil': True, 'error_model': 'numpy'}
        try:
            return numba.njit(list(signatures), cache=True, **options)(function)
        except (RuntimeError, OSError):  # no folder for the cache, or no room in it
            return numba.njit(list(signatures), **options)(function)

    return decorate

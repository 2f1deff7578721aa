"""What every test shares: one thread per process, no window, no network, the package's doctests included.

The settings are made when this file is imported, before torch and the BLAS libraries read them. Warnings are errors
(``pyproject.toml``); the exceptions listed there name the library that warns.
"""

import os

os.environ.setdefault('OMP_NUM_THREADS', '1')
os.environ.setdefault('MPLBACKEND', 'Agg')

import importlib
import sys
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)
BENCHMARKS = Path(__file__).parents[1] / 'benchmarks'


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests that need a CUDA device, the data of ``MMSHARP_DATA``, or minutes (``MMSHARP_LARGE``)."""
    skip_gpu = pytest.mark.skip(reason='needs a CUDA device')
    skip_data = pytest.mark.skip(reason='set MMSHARP_DATA to the folder with the real data sets to run this test')
    skip_large = pytest.mark.skip(reason='takes minutes; run by make bench, or with MMSHARP_LARGE=1')
    for item in items:
        if 'large' in item.keywords and not os.environ.get('MMSHARP_LARGE'):
            item.add_marker(skip_large)
        if 'gpu' in item.keywords and not torch.cuda.is_available():
            item.add_marker(skip_gpu)
        if 'data' in item.keywords and not os.environ.get('MMSHARP_DATA'):
            item.add_marker(skip_data)


@pytest.fixture
def benchmark(monkeypatch):
    """A function from the name of a module of the benchmarks to the module: they import each other as scripts do."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(BENCHMARKS)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], '__file__', None) or '').startswith(str(BENCHMARKS)):
            del sys.modules[name]

"""The models that every mode of training is tested on."""

import pytest
from real_models import REAL


def _chosen(name):
    pytest.importorskip(REAL[name].toolbox)
    return REAL[name]


@pytest.fixture(params=['detector', 'classifier'])
def real(request):
    """A detector of two stages and a classifier."""
    return _chosen(request.param)


@pytest.fixture(params=['dense', 'classifier'])
def real_in_half_precision(request):
    """A detector of one stage, since RoIAlign has no kernel for half precision on CPUs, and a classifier."""
    return _chosen(request.param)

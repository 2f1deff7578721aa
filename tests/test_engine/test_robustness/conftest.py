"""Models that were trained for seconds on pictures made here, shared by the tests of robustness evaluation."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def _module(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / 'tests' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='session')
def robust_data():
    """The module that writes the pictures and the configs."""
    return _module('robust_data')


@pytest.fixture(scope='session')
def detector(robust_data, tmp_path_factory):
    """A detector that finds the shapes of four pictures: config and checkpoint."""
    folder = tmp_path_factory.mktemp('detector')
    config = robust_data.detector_config(robust_data.write_voc(folder / 'voc'))
    return config, robust_data.write_checkpoint(config, folder / 'detector.pth', steps=30)


@pytest.fixture(scope='session')
def classifier(robust_data, tmp_path_factory):
    """A classifier that tells twelve pictures apart: config and checkpoint."""
    folder = tmp_path_factory.mktemp('classifier')
    config = robust_data.classifier_config(robust_data.write_class_folders(folder / 'images'))
    return config, robust_data.write_checkpoint(config, folder / 'classifier.pth', steps=20)

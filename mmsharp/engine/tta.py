"""Test-time augmentation as a config describes it."""

from mmengine.config import Config, ConfigDict

from mmsharp.errors import MmsharpError


def augment_tests(config: Config) -> None:
    """Put ``tta_model`` around the model of a config, and ``tta_pipeline`` into its test data, in place.

    Raises:
        MmsharpError: The config has no such model or pipeline.

    Example:
        >>> augment_tests(Config(dict(model=dict(type='RetinaNet'))))
        Traceback (most recent call last):
        mmsharp.errors.MmsharpError: --tta needs `tta_model` and `tta_pipeline` in the config; ...
    """
    if config.get('tta_model') is None or config.get('tta_pipeline') is None:
        raise MmsharpError('--tta needs `tta_model` and `tta_pipeline` in the config; test without --tta')
    config.model = ConfigDict(**config.tta_model, module=config.model)
    dataset = config.test_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    dataset.pipeline = config.tta_pipeline

"""Whether a data set is ImageNet-1k, whose published reference errors then hold."""

from typing import Any

from mmsharp.type_names import class_names

CLASSES = 1000


def is_imagenet(dataset: Any) -> bool:
    """Whether a data set is MMPretrain's ``ImageNet``, or a kind of it, with its thousand classes.

    Example:
        >>> is_imagenet([])
        False
    """
    classes = (getattr(dataset, 'metainfo', None) or {}).get('classes') or ()
    return 'ImageNet' in class_names(dataset) and len(classes) == CLASSES

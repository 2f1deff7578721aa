"""Image transforms with ranges of parameters, on batches of tensors in [0, 1]."""

from mmsharp.robustness.certification.transforms.blur import Blur
from mmsharp.robustness.certification.transforms.brightness import Brightness
from mmsharp.robustness.certification.transforms.composition import Composition
from mmsharp.robustness.certification.transforms.contrast import Contrast
from mmsharp.robustness.certification.transforms.gamma import Gamma
from mmsharp.robustness.certification.transforms.parsing import parse_transform, parse_transforms, transform_names
from mmsharp.robustness.certification.transforms.rotation import Rotation
from mmsharp.robustness.certification.transforms.scale import Scale
from mmsharp.robustness.certification.transforms.transform import ImageTransform
from mmsharp.robustness.certification.transforms.translation import Translation

__all__ = [
    'Blur',
    'Brightness',
    'Composition',
    'Contrast',
    'Gamma',
    'ImageTransform',
    'Rotation',
    'Scale',
    'Translation',
    'parse_transform',
    'parse_transforms',
    'transform_names',
]

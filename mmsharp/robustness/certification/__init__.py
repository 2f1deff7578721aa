"""Certified robustness to random image transforms: CC-Cert's bound, a conservative and an exact one."""

from mmsharp.robustness.certification.certify import ImageCertificate, Predict, certify
from mmsharp.robustness.certification.chernoff_bound import Compat, chernoff_bound
from mmsharp.robustness.certification.choose_images import IMAGES, choose_images
from mmsharp.robustness.certification.clopper_pearson import clopper_pearson_upper
from mmsharp.robustness.certification.comparison import compare_certifications
from mmsharp.robustness.certification.discrepancy import discrepancy, margin
from mmsharp.robustness.certification.draws import draw_parameters
from mmsharp.robustness.certification.scores import (
    CertificationScores,
    EpsScores,
    certification_scores,
    certified_share,
)
from mmsharp.robustness.certification.settings import EPS, CertificationSettings
from mmsharp.robustness.certification.temperatures import (
    Cap,
    capped_temperatures,
    geometric_temperatures,
    official_temperatures,
    smallest_supported_rate,
)
from mmsharp.robustness.certification.transforms import (
    Composition,
    ImageTransform,
    parse_transform,
    parse_transforms,
    transform_names,
)

__all__ = [
    'EPS',
    'IMAGES',
    'Cap',
    'CertificationScores',
    'CertificationSettings',
    'Compat',
    'Composition',
    'EpsScores',
    'ImageCertificate',
    'ImageTransform',
    'Predict',
    'capped_temperatures',
    'certification_scores',
    'certified_share',
    'certify',
    'chernoff_bound',
    'choose_images',
    'clopper_pearson_upper',
    'compare_certifications',
    'discrepancy',
    'draw_parameters',
    'geometric_temperatures',
    'margin',
    'official_temperatures',
    'parse_transform',
    'parse_transforms',
    'smallest_supported_rate',
    'transform_names',
]

"""Robustness to corruptions and random transforms, usable without any toolbox.

Corruptions: vocabulary, pixel functions, seeds, grid, results and scores. Transforms: ``certification``.
"""

from mmsharp.robustness.certification import (
    CertificationScores,
    CertificationSettings,
    ImageCertificate,
    ImageTransform,
    certification_scores,
    certify,
    chernoff_bound,
    clopper_pearson_upper,
    compare_certifications,
    parse_transform,
    parse_transforms,
    transform_names,
)
from mmsharp.robustness.class_scores import CLASS_PREFIX, ClassScore, ClassScores, class_scores
from mmsharp.robustness.comparison import compare_runs
from mmsharp.robustness.constants import CONSTANTS, TABLES, Constants, constants_for
from mmsharp.robustness.corrupted_arrays import CorruptedArrays, is_folder_of_arrays
from mmsharp.robustness.corrupted_tree import TREE_IMAGES, TREE_MANIFEST, CorruptedTree, check_cells
from mmsharp.robustness.corruption_errors import ALEXNET, CorruptionErrors, corruption_errors, is_accuracy
from mmsharp.robustness.corruptions import (
    BENCHMARK,
    CORRUPTIONS,
    FAMILIES,
    FAMILY_MEMBERS,
    GROUPS,
    HOLDOUT,
    NAMES,
    SEVERITIES,
    Corruption,
    check_name,
    check_severity,
    select,
)
from mmsharp.robustness.functions import (
    BACKENDS,
    SMALLEST_SIDE,
    Backend,
    TooSmallImageError,
    check_image,
    check_size,
    corrupt,
    prepare,
    settle_constants,
)
from mmsharp.robustness.grid import CLEAN, Cell, Grid
from mmsharp.robustness.image_files import ON_BAD_IMAGE, OnBadImage, describe_truncation, ends_whole
from mmsharp.robustness.on_the_fly import CHANNEL_ORDERS, ChannelOrder, OnTheFly, check_order
from mmsharp.robustness.repeated_runs import mean_over_seeds
from mmsharp.robustness.results import CellResult, ResultStore, describe_differences, load_results
from mmsharp.robustness.scores import Scores, score
from mmsharp.robustness.seeds import cell_seed, image_id
from mmsharp.robustness.summary import PREFERRED_METRICS, choose_metric, summarize

__all__ = [
    'ALEXNET',
    'BACKENDS',
    'BENCHMARK',
    'CHANNEL_ORDERS',
    'CLASS_PREFIX',
    'CLEAN',
    'CONSTANTS',
    'CORRUPTIONS',
    'FAMILIES',
    'FAMILY_MEMBERS',
    'GROUPS',
    'HOLDOUT',
    'NAMES',
    'ON_BAD_IMAGE',
    'PREFERRED_METRICS',
    'SEVERITIES',
    'SMALLEST_SIDE',
    'TABLES',
    'TREE_IMAGES',
    'TREE_MANIFEST',
    'Backend',
    'Cell',
    'CellResult',
    'CertificationScores',
    'CertificationSettings',
    'ChannelOrder',
    'ClassScore',
    'ClassScores',
    'Constants',
    'CorruptedArrays',
    'CorruptedTree',
    'Corruption',
    'CorruptionErrors',
    'Grid',
    'ImageCertificate',
    'ImageTransform',
    'OnBadImage',
    'OnTheFly',
    'ResultStore',
    'Scores',
    'TooSmallImageError',
    'cell_seed',
    'certification_scores',
    'certify',
    'check_cells',
    'check_image',
    'check_name',
    'check_order',
    'check_severity',
    'check_size',
    'chernoff_bound',
    'choose_metric',
    'class_scores',
    'clopper_pearson_upper',
    'compare_certifications',
    'compare_runs',
    'constants_for',
    'corrupt',
    'corruption_errors',
    'describe_differences',
    'describe_truncation',
    'ends_whole',
    'image_id',
    'is_accuracy',
    'is_folder_of_arrays',
    'load_results',
    'mean_over_seeds',
    'parse_transform',
    'parse_transforms',
    'prepare',
    'score',
    'select',
    'settle_constants',
    'summarize',
    'transform_names',
]

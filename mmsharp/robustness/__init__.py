"""Corruption robustness, usable without any toolbox: vocabulary, pixel functions, seeds, grid, results and scores."""

from mmsharp.robustness.comparison import compare_runs
from mmsharp.robustness.constants import CONSTANTS, Constants
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
    check_image,
    corrupt,
    prepare,
    settle_constants,
)
from mmsharp.robustness.grid import CLEAN, Cell, Grid
from mmsharp.robustness.image_files import describe_truncation
from mmsharp.robustness.results import CellResult, ResultStore, load_results
from mmsharp.robustness.scores import Scores, score
from mmsharp.robustness.seeds import cell_seed, image_id
from mmsharp.robustness.summary import PREFERRED_METRICS, choose_metric, summarize

__all__ = [
    'ALEXNET',
    'BACKENDS',
    'BENCHMARK',
    'CLEAN',
    'CONSTANTS',
    'CORRUPTIONS',
    'FAMILIES',
    'FAMILY_MEMBERS',
    'GROUPS',
    'HOLDOUT',
    'NAMES',
    'PREFERRED_METRICS',
    'SEVERITIES',
    'SMALLEST_SIDE',
    'Backend',
    'Cell',
    'CellResult',
    'Constants',
    'Corruption',
    'CorruptionErrors',
    'Grid',
    'ResultStore',
    'Scores',
    'cell_seed',
    'check_image',
    'check_name',
    'check_severity',
    'choose_metric',
    'compare_runs',
    'corrupt',
    'corruption_errors',
    'describe_truncation',
    'image_id',
    'is_accuracy',
    'load_results',
    'prepare',
    'score',
    'select',
    'settle_constants',
    'summarize',
]

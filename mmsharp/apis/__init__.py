"""What a notebook calls; the command-line tools call the same."""

from mmsharp.apis.certification import certify_robustness
from mmsharp.apis.comparison import compare_robustness
from mmsharp.apis.deployment import export, slim
from mmsharp.apis.models import init_model
from mmsharp.apis.robustness import evaluate_robustness

__all__ = ['certify_robustness', 'compare_robustness', 'evaluate_robustness', 'export', 'init_model', 'slim']

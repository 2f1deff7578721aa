"""What is learned in place of a mask, and which mask it stands for."""

from mmsharp.pruning.mask_search.parameterisations.parameterisation import Parameterisation
from mmsharp.pruning.mask_search.parameterisations.score import Score
from mmsharp.pruning.mask_search.parameterisations.soft import Soft, percentile

__all__ = ['Parameterisation', 'Score', 'Soft', 'percentile']

"""The terms of the loss that masks are searched with."""

from mmsharp.pruning.mask_search.terms.consistency import Consistency
from mmsharp.pruning.mask_search.terms.l1 import L1
from mmsharp.pruning.mask_search.terms.margin_ratio import MarginRatio
from mmsharp.pruning.mask_search.terms.stability import Stability
from mmsharp.pruning.mask_search.terms.task import Task
from mmsharp.pruning.mask_search.terms.term import Term, total_loss

__all__ = ['L1', 'Consistency', 'MarginRatio', 'Stability', 'Task', 'Term', 'total_loss']

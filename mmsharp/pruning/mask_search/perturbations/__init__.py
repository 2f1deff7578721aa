"""How the variables of the masks are moved for the perturbed pass."""

from mmsharp.pruning.mask_search.perturbations.gradient_perturbation import GradientPerturbation
from mmsharp.pruning.mask_search.perturbations.no_perturbation import NoPerturbation
from mmsharp.pruning.mask_search.perturbations.perturbation import Perturbation
from mmsharp.pruning.mask_search.perturbations.uniform_perturbation import UniformPerturbation

__all__ = ['GradientPerturbation', 'NoPerturbation', 'Perturbation', 'UniformPerturbation']

"""AdaSAP: adaptive sharpness, pruning, then uniform sharpness on the slim network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmsharp.engine.hooks.pruning_hook import PruningHook
from mmsharp.engine.optim_wrappers import SharpnessAware
from mmsharp.engine.pruning.phases import FINE_TUNING
from mmsharp.errors import MmsharpError
from mmsharp.registry import ASCENTS, HOOKS, build_part
from mmsharp.sharpness import Ascent


@HOOKS.register_module()
class AdaSAPHook(PruningHook):
    """The three phases of AdaSAP (Bair et al., ICLR 2024, arXiv 2306.14306, algorithm 2).

    1. Warm-up: the optimizer wrapper's own ascent, per-channel balls, larger where a channel matters less.
    2. Pruning: the same ascent, while channels are masked on the schedule.
    3. Fine-tuning: a uniform ascent over the whole network (``fine_tuning``), on the slim network.

    Use it with ``optim_wrapper = dict(type='mmsharp.SAMOptimWrapper', ascent=dict(type='AdaSAP'))``; without a
    sharpness-aware wrapper it refuses to start. Slimming where pruning ends and not where training ends is ours: the
    longest phase then runs on the small network, which pays back the second pass.

    Args:
        budget: See :class:`PruningHook`, whose other arguments apply too.
        fine_tuning: Ascent of the third phase; ASAM in the paper. Its reported radius of 2.0 destroys small networks
            in short runs, 0.5 (ASAM's own for CIFAR-10) does not, so that ``None`` stands for that.
        kwargs: For :class:`PruningHook`. The reported lengths on ImageNet are 10 of 90 epochs of warm-up and a step
            every 30 iterations; the length of the pruning phase is not known.

    Raises:
        MmsharpError: The optimizer wrapper is not sharpness-aware; or as in :class:`PruningHook`.
    """

    def __init__(
        self,
        budget: Mapping[str, float],
        fine_tuning: Mapping[str, Any] | Ascent | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(budget, **kwargs)
        self.fine_tuning = build_part(ASCENTS, dict(type='ASAM', rho=0.5) if fine_tuning is None else fine_tuning)
        if not isinstance(self.fine_tuning, Ascent):
            raise MmsharpError(f'fine_tuning={fine_tuning!r} is neither a config with a `type` nor an Ascent')

    def before_train(self, runner: Any) -> None:
        """Refuse to run without the second pass, which the toolboxes' own ``--amp`` would drop unnoticed.

        Raises:
            MmsharpError: The wrapper is not sharpness-aware, or does not go with ``fine_tuning``; or as in
                :class:`PruningHook`.
        """
        if not isinstance(runner.optim_wrapper, SharpnessAware):
            raise MmsharpError(
                f'AdaSAPHook needs a sharpness-aware optimizer wrapper, but got {type(runner.optim_wrapper).__name__}; '
                "set optim_wrapper=dict(type='mmsharp.SAMOptimWrapper', ascent=dict(type='AdaSAP')), or "
                "'mmsharp.AmpSAMOptimWrapper' for mixed precision (the toolboxes' own --amp replaces it; use ours)"
            )
        runner.optim_wrapper.check_ascent(self.fine_tuning)
        super().before_train(runner)

    def enter_phase(self, runner: Any, phase: str) -> None:
        """Exchange the ascent where fine-tuning begins."""
        super().enter_phase(runner, phase)
        if phase == FINE_TUNING:
            runner.optim_wrapper.set_ascent(self.fine_tuning, resumed=self._was_fine_tuning)

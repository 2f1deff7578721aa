"""Hooks: pruning, the phases of the methods, and robust evaluation, plugged into MMEngine's runner."""

from mmsharp.engine.hooks.adasap_hook import AdaSAPHook
from mmsharp.engine.hooks.channels_last_hook import ChannelsLastHook
from mmsharp.engine.hooks.checkpoint_content_hook import CheckpointContentHook
from mmsharp.engine.hooks.checkpoint_fit_hook import CheckpointFitHook
from mmsharp.engine.hooks.corruption_eval_hook import CorruptionEvalHook
from mmsharp.engine.hooks.guarded_loading_hook import GuardedLoadingHook
from mmsharp.engine.hooks.mask_search_hook import MaskSearchHook
from mmsharp.engine.hooks.pruning_hook import PruningHook
from mmsharp.engine.hooks.psap_hook import PSAPHook
from mmsharp.engine.hooks.rng_state_hook import RNGStateHook

__all__ = [
    'AdaSAPHook',
    'ChannelsLastHook',
    'CheckpointContentHook',
    'CheckpointFitHook',
    'CorruptionEvalHook',
    'GuardedLoadingHook',
    'MaskSearchHook',
    'PSAPHook',
    'PruningHook',
    'RNGStateHook',
]

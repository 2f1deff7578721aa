"""What is compared: methods as changes of the config of a baseline, which prunes and trains with SGD."""

from __future__ import annotations

from typing import Any

SAM = 'mmsharp.SAMOptimWrapper'
ADASAP = {'optim_wrapper.type': SAM, 'optim_wrapper.ascent': dict(type='AdaSAP')}
METHODS: dict[str, dict[str, Any]] = {
    'SGD': {},
    'SGD, twice the epochs': {},
    'SAM': {'optim_wrapper.type': SAM, 'optim_wrapper.ascent': dict(type='SAM')},
    'ASAM': {'optim_wrapper.type': SAM, 'optim_wrapper.ascent': dict(type='ASAM')},
    'AdaSAP': {**ADASAP, 'default_hooks.pruning.type': 'mmsharp.AdaSAPHook'},
    'MomentumSAM': {'optim_wrapper.type': SAM, 'optim_wrapper.ascent': dict(type='MomentumSAM')},
    'AdaSAP along the momentum': {
        'optim_wrapper.type': SAM,
        'optim_wrapper.ascent': dict(type='MomentumSAM', ascent=dict(type='AdaSAP', rho_min=0.01, rho_max=0.1)),
        'default_hooks.pruning.type': 'mmsharp.AdaSAPHook',
        'default_hooks.pruning.fine_tuning': dict(type='MomentumSAM', ascent=dict(type='ASAM', rho=1.0)),
    },
    'AdaSAP, every 5th step': {
        **ADASAP,
        'optim_wrapper.policy': dict(type='Periodic', interval=5),
        'default_hooks.pruning.type': 'mmsharp.AdaSAPHook',
    },
    'AdaSAP, LookSAM(5)': {
        **ADASAP,
        'optim_wrapper.policy': dict(type='LookSAM', interval=5),
        'default_hooks.pruning.type': 'mmsharp.AdaSAPHook',
    },
    'AdaSAP, half of the layers': {
        **ADASAP,
        'optim_wrapper.policy': dict(type='RandomLayers', fraction=0.5),
        'default_hooks.pruning.type': 'mmsharp.AdaSAPHook',
    },
}
"""What a method changes in the config of the baseline, which prunes and trains with SGD."""
LONGER = 'SGD, twice the epochs'
"""The method whose training :func:`experiments.runs.lengthen` lengthens."""
MIXED = {'OptimWrapper': 'mmsharp.AmpOptimWrapper', SAM: 'mmsharp.AmpSAMOptimWrapper'}
"""The wrappers of mixed precision."""

"""Short trainings with PSAP under every kind of optimizer wrapper, and what can be seen of them."""

import copy
import json
from pathlib import Path

import torch
from mmengine.hooks import Hook

from mmsharp.engine.hooks import PSAPHook
from mmsharp.engine.optim_wrappers import AmpOptimWrapper, AmpSAMOptimWrapper
from mmsharp.pruning.protection import filter_parts
from mmsharp.registry import OPTIM_WRAPPERS, PROTECTIONS

PRUNER = dict(type='mmsharp.ChannelPruner', round_to=1)
HOOK = dict(type='mmsharp.PSAPHook', budget=dict(params=0.4), pruner=PRUNER, pruning=0.5, interval=3)
SGD = dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=1e-3)
WRAPPERS = {
    'plain': dict(type='OptimWrapper'),
    'clipped': dict(type='OptimWrapper', clip_grad=dict(max_norm=0.1)),
    'adam': dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.01, weight_decay=0.05)),
    'accumulated': dict(type='OptimWrapper', accumulative_counts=2),
    'bfloat16': dict(type='mmsharp.AmpOptimWrapper', dtype='bfloat16'),
    'scaled': dict(type='mmsharp.ScaledOnCPU', dtype='bfloat16'),
    'fixed': dict(type='mmsharp.ScaledOnCPU', dtype='bfloat16', scale=1024.0),
    'sam': dict(type='mmsharp.SAMOptimWrapper', ascent=dict(type='SAM', rho=0.5)),
    'adasap': dict(type='mmsharp.SAMOptimWrapper', ascent=dict(type='AdaSAP'), accumulative_counts=2),
    'scaled_sam': dict(type='mmsharp.ScaledSAMOnCPU', ascent=dict(type='AdaSAP'), dtype='bfloat16'),
}


class Scaled:
    """With loss scaling, which the wrappers have on an accelerator alone."""

    def __init__(self, scale: float | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        self.loss_scaler = torch.amp.GradScaler('cpu', init_scale=scale or 65536.0, growth_interval=5)
        self._scale_update_param = scale


@OPTIM_WRAPPERS.register_module(force=True)
class ScaledOnCPU(Scaled, AmpOptimWrapper):
    """A scale that grows, or a fixed one."""


@OPTIM_WRAPPERS.register_module(force=True)
class ScaledSAMOnCPU(Scaled, AmpSAMOptimWrapper):
    """Sharpness-aware, too."""


def setting(name, **change):
    return dict(optim_wrapper=dict(dict(optimizer=dict(SGD)), **copy.deepcopy(WRAPPERS[name])), **change)


class OfOneKind:
    """A protection as a user would write it."""

    watch, gate, refill = 1, True, False

    def __init__(self, watch: int = 1) -> None:
        self.watch = watch
        self.seen = []

    def __call__(self, pulse, gate, zeroed):
        self.seen.append((pulse, gate, zeroed))
        return self.chosen(zeroed)


@PROTECTIONS.register_module(force=True)
class Everything(OfOneKind):
    """Brings all of them back."""

    def chosen(self, zeroed):
        return zeroed


@PROTECTIONS.register_module(force=True)
class Nothing(OfOneKind):
    """Brings none of them back."""

    def chosen(self, zeroed):
        return torch.zeros_like(zeroed)


class Watch(Hook):
    """Calls functions after and before every training iteration, around all other hooks."""

    def __init__(self, after=None, before=None, priority='LOWEST') -> None:
        self.after, self.before, self.priority = after, before, priority

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if self.after is not None:
            self.after(runner)

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        if self.before is not None:
            self.before(runner, data_batch)


def hook_of(runner) -> PSAPHook:
    return next(hook for hook in runner.hooks if isinstance(hook, PSAPHook))


def filters_of(runner):
    """``{(group, tensor): (values of each channel, channels)}``: weights, biases, momentum, running statistics."""
    pruner, optimizer = hook_of(runner).pruner, runner.optim_wrapper.optimizer
    found = {}
    for group in pruner.groups.groups:
        for part in filter_parts(runner.model, group):
            held = {'': part.tensor, **optimizer.state.get(part.tensor, {})}
            for name, value in held.items():
                if isinstance(value, torch.Tensor) and value.shape == part.tensor.shape:
                    values = value.detach().movedim(part.dim, 0)[part.positions].clone()
                    found[group.name, f'{part.name}/{name}'] = values, part.channels, part.learned
    return found


def steps_of(runner):
    """The lines of the run's folder."""
    return [json.loads(line) for line in (Path(runner.work_dir) / 'psap.jsonl').read_text().splitlines()]


def window_of(runner):
    """The open watching window, if there is one."""
    steps = hook_of(runner)._steps
    return None if steps is None else steps.window

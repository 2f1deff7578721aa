"""What one config has to pass: build, find groups, masked equals slim, a training step, and a second build."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from mmsharp.engine.checkpoints.checkpoint_fit import check_fit
from mmsharp.engine.configs.config import load_config
from mmsharp.engine.configs.config_text import config_text
from mmsharp.engine.deployment.files import CONFIG, RECIPE, WEIGHTS
from mmsharp.engine.deployment.slim_config import slim_config
from mmsharp.engine.optim_wrappers import SAMOptimWrapper
from mmsharp.engine.prunability.examples import announce_first_iteration, training_batch
from mmsharp.engine.prunability.families import config_folder
from mmsharp.engine.prunability.preparation import build, example, prepared
from mmsharp.engine.prunability.shares import dense_reasons, share_in_groups
from mmsharp.engine.prunability.weights import randomise_
from mmsharp.errors import MmsharpError
from mmsharp.files import write_json, write_text
from mmsharp.pruning import (
    ChannelPruner,
    Forward,
    OneShot,
    Random,
    Uniform,
    apply_recipe,
    count_macs,
    count_parameters,
    find_groups,
    output_tensors,
    tensor_forward,
)
from mmsharp.pruning.forwards import looked_at
from mmsharp.pruning.forwards.model_copies import model_copy
from mmsharp.pruning.forwards.precision import full_float32
from mmsharp.pruning.slimming.slim_difference import largest_difference

ROW, OUTPUTS = 'row.json', 'outputs.pth'
TOLERANCE = 1e-5
"""Largest difference between masked and slim outputs, relative to the outputs' scale."""
IMAGES = 2
LEARNING_RATE = 1e-3


class Trial(NamedTuple):
    """What to measure.

    Args:
        config: Path of a config of a toolbox.
        toolbox: ``'mmdet'`` or ``'mmpretrain'``.
        size: Height and width of the images.
        ratio: Share of the channels of every group that goes.
        seed: Of weights, images and scores.
        options: Changes of the config.
    """

    config: str
    toolbox: str
    size: int
    ratio: float
    seed: int
    options: Mapping[str, Any] = MappingProxyType({})


class _Row:
    """The row so far, on the disk after every stage: what a crash leaves behind says where it happened."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / ROW
        self._content: dict[str, Any] = {}

    def begin(self, stage: str) -> None:
        self.add(stage=stage)

    def add(self, **entries: Any) -> None:
        self._content.update(entries)
        write_json(self._path, self._content)


def measure(trial: Trial, folder: Path) -> None:
    """Run all checks but the second build; write ``row.json``, and what :func:`rebuild` needs, into the folder.

    Raises:
        Exception: Whatever a stage raises; ``row.json`` names the stage.
    """
    row = _Row(folder)
    row.begin('build')
    torch.set_num_threads(1)
    announce_first_iteration()
    config = prepared(load_config(trial.config, trial.options), config_folder(trial.toolbox))
    model = build(config, trial.seed)
    model.init_weights()  # type: ignore[operator]
    randomise_(model, trial.seed)
    batch = training_batch(config, trial.toolbox, trial.size, IMAGES, trial.seed)
    inputs, samples = example(model, batch, trial.seed)
    forward = tensor_forward(inputs, samples)
    row.add(input_shape=list(inputs.shape), parameters=count_parameters(model))

    row.begin('forward')
    dense = _outputs(model, forward)
    if not any(tensor.is_floating_point() and tensor.any() for tensor in dense):
        raise MmsharpError('the forward gives no numbers that could be compared')

    row.begin('groups')
    began = time.process_time()  # of one thread: what it takes on an idle core
    groups = find_groups(model, forward)
    row.add(
        seconds_for_groups=round(time.process_time() - began, 2),
        groups=len(groups.groups),
        channels=sum(group.channels for group in groups.groups),
        backbone_in_groups=share_in_groups(model, groups, 'backbone'),
        dense=dense_reasons(model, groups),
    )
    pruner = ChannelPruner(
        dict(channels=1 - trial.ratio), Random(trial.seed), Uniform(), OneShot(), min_channels=1, round_to=1
    )
    pruner.attach(model, forward, groups)
    pruner.update(1.0)

    row.begin('masked equals slim')
    masked = _outputs(model, forward)
    if len(dense) == len(masked) and all(map(torch.equal, dense, masked)):
        raise MmsharpError('masking channels changes no output, so that nothing would be compared')
    difference = pruner.verify(forward)
    row.add(difference=float(f'{difference:.2e}'))
    if not difference <= TOLERANCE:
        raise MmsharpError(f'masked and slim outputs differ by {difference:.1e} of their scale')
    slim = model_copy(model)
    recipe = pruner.recipe()
    apply_recipe(slim, recipe)
    macs = count_macs(model, forward)
    row.add(
        params_removed=1 - count_parameters(slim) / count_parameters(model),
        macs=macs,
        macs_removed=1 - count_macs(slim, forward) / max(macs, 1),
    )

    row.begin('rebuild')
    recipe.save(folder / RECIPE)
    torch.save(slim.state_dict(), folder / WEIGHTS)
    write_text(folder / CONFIG, config_text(slim_config(config)))
    torch.save(dict(inputs=inputs, outputs=_outputs(slim, forward)), folder / OUTPUTS)

    row.begin('training step')
    row.add(loss=train_one_step(slim, batch))
    row.add(stage='rebuild')


def rebuild(trial: Trial, folder: Path) -> None:
    """Build the slim model from the config and the recipe that :func:`measure` wrote, and compare its outputs.

    Raises:
        MmsharpError: It gives something else.
    """
    torch.set_num_threads(1)
    announce_first_iteration()
    config = load_config(folder / CONFIG)
    model = build(config, trial.seed + 1)
    weights = torch.load(folder / WEIGHTS, weights_only=True)
    check_fit(model, weights, WEIGHTS)
    model.load_state_dict(weights, strict=False)
    known = torch.load(folder / OUTPUTS, weights_only=True)
    batch = training_batch(config, trial.toolbox, trial.size, IMAGES, trial.seed)
    _, samples = example(model, batch, trial.seed)
    outputs = _outputs(model, tensor_forward(known['inputs'], samples))
    difference = largest_difference(known['outputs'], outputs)
    content = json.loads((folder / ROW).read_text())
    content.update(rebuilt_difference=float(f'{difference:.2e}'), stage='done')
    write_json(folder / ROW, content)
    if not difference <= TOLERANCE:
        raise MmsharpError(f'the model built from config and recipe gives outputs that differ by {difference:.1e}')


def train_one_step(model: nn.Module, batch: Mapping[str, Any]) -> float:
    """One step of SGD with SAM's two passes, as a runner takes it; the loss.

    Raises:
        MmsharpError: The loss or a parameter is not finite, or no parameter changed.
    """
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    wrapper = SAMOptimWrapper(ascent=dict(type='SAM'), optimizer=torch.optim.SGD(trained, lr=LEARNING_RATE))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    logged = model.train_step(copy.deepcopy(dict(batch)), wrapper)  # type: ignore[operator]
    loss = float(logged['loss'])
    if not np.isfinite(loss):
        raise MmsharpError(f'the loss of the slim model is {loss}')
    after = list(model.parameters())
    if not all(bool(parameter.isfinite().all()) for parameter in after):
        raise MmsharpError('the training step leaves parameters that are not finite')
    if all(torch.equal(first, second) for first, second in zip(before, after)):
        raise MmsharpError('the training step changes no parameter')
    return round(loss, 4)


def _outputs(model: nn.Module, forward: Forward) -> list[Tensor]:
    with looked_at(model), full_float32():
        return [tensor.clone() for tensor in output_tensors(forward(model))]

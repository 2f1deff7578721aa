"""Does protection bring back the filters whose removal costs most: the published ResNet-20 on CIFAR-10.

    MMSHARP_DATA=... python benchmarks/psap_pulses.py [--images 2000] [--batches 16] [--shares 0.3 0.5 0.7]
        [--record NAME] [--render]

The loss of the dense network is measured on held-out images, and with each of its prunable filters removed alone. Then
the filters of lowest norm are zeroed in every group, as a soft pruning step does, and what is known of them is ranked
against what their removal costs (Spearman, within a group, mean over the groups): their norm; their pulse, the first
gradient after they were zeroed; their gate gradient before, of one step and averaged over steps; and the Taylor score
of their BatchNorm (that of weights before a BatchNorm in training is 0, as their length does not matter). A quantity
that is the same for all filters of a group says nothing there, and counts as 0. The second table has what the filters
cost that a protection brings back, by pulses alone and with gate gradients, over the batches after which any come back.
``--record`` writes benchmarks/results/psap_pulses_NAME.json and the table of docs/results.md; ``--render`` only writes
the table.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from adasap_cifar10 import BASE, DOCUMENT, ROOT, prepare
from mmengine.config import Config
from mmengine.runner import Runner
from mmengine.runner.checkpoint import load_checkpoint
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from mmsharp.command_line import run
from mmsharp.engine.configs.building_model import build_model
from mmsharp.engine.costs.machine import machine, versions
from mmsharp.files import read_json, replace_marked, write_json
from mmsharp.pruning import (
    ChannelGroup,
    GateMeans,
    Magnitude,
    ProtectiveReconstruction,
    PulseWatch,
    SoftPruning,
    Taylor,
    find_groups,
    reconstruct,
    tensor_forward,
)

Batch = tuple[Tensor, Tensor]
QUANTITIES = {
    'norm': 'norm',
    'taylor': 'Taylor score',
    'pulse': 'pulse',
    'gate': 'gate gradient, one step',
    'gate_mean': 'gate gradient, mean',
}
RULES = {'pulses': ProtectiveReconstruction(), 'pulses, gates': ProtectiveReconstruction(gate=True)}
"""By what filters come back: the default, and with gate gradients for those without a pulse."""


def batches(config: Config, model: nn.Module, split: str, size: int, count: int) -> list[Batch]:
    """So many images of a split, in batches: normalised images and labels."""
    training = split == 'train'
    loader = copy.deepcopy(config.train_dataloader if training else config.test_dataloader)
    loader.update(num_workers=0, persistent_workers=False, batch_size=size)
    loader.sampler.shuffle = True
    loader.dataset.data_root = str(Path(loader.dataset.data_root).with_name(split))
    found: list[Batch] = []
    for data in Runner.build_dataloader(loader, seed=0):
        data = model.data_preprocessor(data, False)
        labels = torch.tensor([int(sample.gt_label) for sample in data['data_samples']])
        found.append((data['inputs'], labels))
        if sum(len(labels) for _, labels in found) >= count:
            break
    return found


def logits(model: nn.Module, images: Tensor) -> Tensor:
    """The classifier's outputs."""
    return model.head.fc(model.extract_feat(images)[-1])


@torch.no_grad()
def costs_of_removal(
    model: nn.Module, groups: Sequence[ChannelGroup], images: Sequence[Batch]
) -> tuple[float, list[Tensor]]:
    """The loss of the network, and per group by how much it rises when a filter is removed from it alone.

    A filter in the inside of a block is removed by zeros where the second convolution reads it.
    """
    model.eval()
    blocks = [block for number in (1, 2, 3) for block in getattr(model.backbone, f'layer{number}')]
    place = {id(block): number for number, block in enumerate(blocks)}
    dense, rises = 0.0, [torch.zeros(group.channels, dtype=torch.float64) for group in groups]
    count = sum(len(labels) for _, labels in images)

    def loss(features: Tensor, labels: Tensor) -> float:
        return float(cross_entropy(model.head.fc(features.mean(dim=(2, 3))), labels, reduction='sum')) / count

    for pictures, labels in tqdm(images, unit='batch'):
        features, inputs = model.backbone.relu(model.backbone.bn1(model.backbone.conv1(pictures))), []
        for block in blocks:
            inputs.append(features)
            features = block(features)
        whole = loss(features, labels)
        dense += whole
        for group, rise in zip(groups, rises):
            block = model.get_submodule(group.name.removesuffix('.conv1'))
            for channel in range(group.channels):
                handle = block.conv2.register_forward_pre_hook(
                    lambda _, given, j=channel: given[0].index_fill(1, torch.tensor([j]), 0.0)
                )
                features = inputs[place[id(block)]]
                for later in blocks[place[id(block)] :]:
                    features = later(features)
                handle.remove()
                rise[channel] += loss(features, labels) - whole
    return dense, rises


def pulses(model: nn.Module, groups: Sequence[ChannelGroup], keep: Sequence[Tensor], batch: Batch) -> list[Tensor]:
    """What one training step says of filters that have been zeroed."""
    trained = copy.deepcopy(model).train()
    soft = SoftPruning(trained, groups, keep)
    soft.zero_()
    watch = PulseWatch(soft)
    cross_entropy(logits(trained, batch[0]), batch[1]).backward()
    watch.take_step(watch.gradients())
    found = watch.pulses()
    watch.close()
    return found


def before(model: nn.Module, groups: Sequence[ChannelGroup], steps: Sequence[Batch]) -> dict[str, list[Tensor]]:
    """What steps of training say of filters that are there: gate gradients and Taylor scores, averaged over them."""
    trained, gates, taylor = copy.deepcopy(model).train(), GateMeans(), Taylor()
    for images, labels in steps:
        trained.zero_grad()
        cross_entropy(logits(trained, images), labels).backward()
        gates.observe(trained, groups)
        taylor.observe(trained, tuple(groups))
    return dict(gate=gates.means() or [], taylor=[taylor(trained, group) for group in groups])


def agreement(scores: Sequence[Tensor], costs: Sequence[Tensor], among: Sequence[Tensor]) -> float:
    """Spearman's rank correlation within each group, mean over the groups; 0 where all scores are equal.

    Example:
        >>> scores, costs = [torch.tensor([1.0, 2.0, 3.0])], [torch.tensor([3.0, 5.0, 4.0])]
        >>> agreement(scores, costs, [torch.tensor([True, True, True])])
        0.5
    """
    found = []
    for score, cost, mask in zip(scores, costs, among):
        constant = len(score[mask].unique()) < 2
        found.append(0.0 if constant else float(spearmanr(score[mask], cost[mask]).statistic))
    return mean(found)


def measure(
    model: nn.Module,
    groups: Sequence[ChannelGroup],
    share: float,
    steps: Sequence[Batch],
    known: dict[str, list[Tensor]],
    gates: Sequence[list[Tensor]],
    costs: Sequence[Tensor],
) -> dict[str, Any]:
    """What is known of the filters of lowest norm when this share of each group is zeroed.

    Args:
        model: The dense one.
        groups: Its groups.
        share: Of the filters.
        steps: Batches for a pulse each.
        known: Means over these batches, before anything was zeroed.
        gates: Gate gradients of each of them.
        costs: Of the filters' removal.
    """
    norms = [Magnitude()(model, group) for group in groups]
    keep = [norm.argsort().argsort() >= round(share * len(norm)) for norm in norms]
    zeroed = [~mask for mask in keep]
    number = sum(int(mask.sum()) for mask in zeroed)
    single = [pulses(model, groups, keep, step) for step in steps]

    def cost(of: Sequence[Tensor]) -> float:
        return sum(float(rise[mask].sum()) for rise, mask in zip(costs, of)) / max(1, sum(int(m.sum()) for m in of))

    brought_back = {}
    for name, rule in RULES.items():
        back = [reconstruct(rule, keep, pulse, known['gate'], None)[0] for pulse in single]
        counts = [sum(int(mask.sum()) for mask in one) for one in back]
        some = [one for one, count in zip(back, counts) if count]
        brought_back[name] = dict(
            back=mean(counts),
            cost=mean(cost(one) for one in some) if some else None,
            cost_by_norm=mean(cost(list(largest(norms, zeroed, one))) for one in some) if some else None,
        )
    return dict(
        share=share,
        zeroed=number,
        with_pulse=mean(sum(int((p[m] > 0).sum()) for p, m in zip(pulse, zeroed)) for pulse in single) / number,
        norm=agreement(norms, costs, zeroed),
        taylor=agreement(known['taylor'], costs, zeroed),
        pulse=mean(agreement(pulse, costs, zeroed) for pulse in single),
        gate=mean(agreement(gate, costs, zeroed) for gate in gates),
        gate_mean=agreement(known['gate'], costs, zeroed),
        rules=brought_back,
        cost_zeroed=cost(zeroed),
    )


def largest(norms: Sequence[Tensor], among: Sequence[Tensor], like: Sequence[Tensor]) -> Iterator[Tensor]:
    """As many of each group as in ``like``, those of the largest norm."""
    for norm, mask, other in zip(norms, among, like):
        order = norm.masked_fill(~mask, -1.0).argsort(descending=True)[: int(other.sum())]
        yield torch.zeros_like(mask).index_fill_(0, order, True)


def render(record: dict[str, Any]) -> str:
    """The record as tables in Markdown."""
    place = record['machine']
    lines = [
        f'{record["filters"]} filters in {record["groups"]} groups; loss {record["loss"]:.3f} on {record["images"]} '
        f'held-out images; means over {record["batches"]} batches of 128 training images ({place["processor"]}, torch '
        f'{record["versions"]["torch"]}).',
        '',
        f'| zeroed | with a pulse | {" | ".join(QUANTITIES.values())} |',
        f'|---:|---:|{"---:|" * len(QUANTITIES)}',
    ]
    for entry in record['shares']:
        numbers = ' | '.join(f'{entry[name]:.2f}' for name in QUANTITIES)
        lines.append(f'| {entry["share"]:.0%} | {entry["with_pulse"]:.0%} | {numbers} |')
    lines += [
        '',
        '| zeroed | by | brought back | cost of each, brought back | as many of the largest norm | all zeroed |',
        '|---:|---|---:|---:|---:|---:|',
    ]
    for entry in record['shares']:
        for rule, found in entry['rules'].items():
            prices = [found['cost'], found['cost_by_norm'], entry['cost_zeroed']]
            cells = ' | '.join('' if price is None else f'{price:.4f}' for price in prices)
            lines.append(f'| {entry["zeroed"]} | {rule} | {found["back"]:.0f} | {cells} |')
    return '\n'.join(lines)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', type=int, default=2000, help='held-out images, at most 2000 (default: 2000)')
    parser.add_argument('--batches', type=int, default=16, help='of 128 training images each (default: 16)')
    parser.add_argument('--shares', type=float, nargs='+', default=[0.3, 0.5, 0.7], help='of the filters, zeroed')
    parser.add_argument('--work-dir', type=Path, default=ROOT / 'work_dirs' / 'psap_cifar10', help='where to work')
    parser.add_argument('--record', metavar='NAME', help='write the record and the table of the document')
    parser.add_argument('--render', action='store_true', help='only write the table from the record of that name')
    args = parser.parse_args()
    if args.render and not args.record:
        parser.error('--render needs --record NAME')
    return args


def main() -> None:
    """Measure and print; write where asked."""
    args = parse_args()
    name = f'psap_pulses_{args.record}'
    path = ROOT / 'benchmarks' / 'results' / f'{name}.json'
    if args.render:
        record = read_json(path, 'start without --render')
    else:
        config = Config.fromfile(BASE)
        config.merge_from_dict(prepare(args.work_dir, 25_000, 8_000, 2_000, 8_000))
        model = build_model(config)
        load_checkpoint(model, config.load_from, map_location='cpu')
        held_out = batches(config, model, 'holdout', 250, args.images)
        steps = batches(config, model, 'train', 128, 128 * args.batches)
        groups = find_groups(model, tensor_forward(held_out[0][0][:1])).groups
        loss, costs = costs_of_removal(model, groups, held_out)
        known, gates = before(model, groups, steps), [before(model, groups, [step])['gate'] for step in steps]
        record = dict(
            machine=machine(),
            versions=versions(('torch', 'onedl-mmpretrain')),
            images=sum(len(labels) for _, labels in held_out),
            batches=len(steps),
            filters=sum(group.channels for group in groups),
            groups=len(groups),
            loss=loss,
            shares=[measure(model, groups, share, steps, known, gates, costs) for share in args.shares],
        )
    print(render(record))
    if args.record:
        write_json(path, record)
        replace_marked(DOCUMENT, name, render(record))


if __name__ == '__main__':
    run(main)

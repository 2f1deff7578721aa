"""What two-stage and query-based detectors run: regions, deformable convolutions, layers that only losses reach."""

import pytest
import torch
from torch import nn

from mmsharp.pruning import ChannelMasks, apply_recipe, find_groups, tensor_forward
from mmsharp.pruning.forwards import run_losses

from ..conftest import assert_masked_equals_slim, masked_and_slim

pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of their own optional parts

IMAGE = torch.linspace(-1, 1, 3 * 16 * 16).reshape(1, 3, 16, 16)
REGIONS = torch.tensor([[0.0, 1.0, 1.0, 9.0, 12.0], [0.0, 4.0, 2.0, 15.0, 15.0]])


class Regions(nn.Module):
    """Two pyramid levels, an extractor of regions and a head."""

    def __init__(self, finest_scale=56):
        super().__init__()
        extractors = pytest.importorskip('mmdet.models.roi_heads.roi_extractors')
        self.fine, self.coarse = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.extract = extractors.SingleRoIExtractor(
            dict(type='RoIAlign', output_size=2, sampling_ratio=0), 8, [1, 2], finest_scale=finest_scale
        )
        self.head = nn.Linear(8 * 4, 3)

    def forward(self, x):
        return self.head(self.extract((self.fine(x), self.coarse(x)), REGIONS.to(x)).flatten(1))


class Deformable(nn.Module):
    """A deformable convolution between two plain ones, its places from a third."""

    def __init__(self, kind, **settings):
        super().__init__()
        ops = pytest.importorskip('mmcv.ops')
        self.first, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(12, 2, 1)
        self.deformed = getattr(ops, kind)(8, 12, 3, padding=1, **settings)
        nn.init.normal_(self.deformed.conv_offset.weight, 0, 0.1)

    def forward(self, x):
        return self.last(self.deformed(self.first(x)).relu())


class CARAFEFunction(torch.autograd.Function):
    """CARAFE with kernels of one place; mmcv has it for GPUs only."""

    @staticmethod
    def forward(ctx, features, masks, kernel_size, group_size, scale_factor):
        large = features.repeat_interleave(scale_factor, 2).repeat_interleave(scale_factor, 3)
        return large * masks.repeat_interleave(features.shape[1] // group_size, 1)


class MultiScaleDeformableAttnFunction(torch.autograd.Function):
    """What mmcv runs on a GPU, by its own code for CPUs."""

    @staticmethod
    def forward(ctx, value, value_spatial_shapes, level_start_index, sampling_locations, attention_weights, step):
        from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

        return multi_scale_deformable_attn_pytorch(value, value_spatial_shapes, sampling_locations, attention_weights)


class Upsampled(nn.Module):
    """A reassembly by weights that a convolution makes."""

    def __init__(self, group_size):
        super().__init__()
        self.first, self.last, self.group_size = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1), group_size
        self.weights = nn.ConvTranspose2d(8, group_size, 2, stride=2)

    def forward(self, x):
        x = self.first(x)
        return self.last(CARAFEFunction.apply(x, self.weights(x).sigmoid(), 1, self.group_size, 2))


class Attention(nn.Module):
    """Deformable attention of two heads over one level of 16 x 16 places, as on a GPU."""

    def __init__(self):
        super().__init__()
        pytest.importorskip('mmcv.ops')
        self.value, self.places, self.output = nn.Linear(3, 16), nn.Linear(3, 2 * 4 * 2), nn.Linear(16, 2)

    def forward(self, x):
        tokens = x.flatten(2).transpose(1, 2)
        count = tokens.shape[1]
        places = self.places(tokens).sigmoid().view(1, count, 2, 1, 4, 2)
        weights = torch.full((1, count, 2, 1, 4), 0.25).to(x)
        value = self.value(tokens).view(1, count, 2, -1)
        shapes, starts = torch.tensor([[16, 16]]), torch.tensor([0])
        return self.output(MultiScaleDeformableAttnFunction.apply(value, shapes, starts, places, weights, 64))


class WithStoredAuxiliary(nn.Module):
    """A layer that only the loss runs, whose code stores what it takes of its channels."""

    def __init__(self, runs=True):
        super().__init__()
        self.backbone, self.head = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1)
        self.auxiliary, self.scores = nn.Conv2d(8, 16, 1), nn.Linear(4, 2)
        self.runs = runs

    def forward(self, inputs, data_samples=None, mode='tensor'):
        features = self.backbone(inputs)
        if mode == 'tensor':
            return self.head(features)
        scores = self.scores(self.auxiliary(features).mean((2, 3)).view(-1, 4, 4).sum(1))
        if not self.runs and (self.auxiliary.weight.detach().numpy() == 0).any():
            raise KeyError('epoch')
        return dict(loss=scores.square().mean())


class WithAuxiliary(nn.Module):
    """A model of MMEngine's kind, a layer of which only its loss runs."""

    def __init__(self, fails=False):
        super().__init__()
        self.backbone, self.head = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1)
        self.auxiliary = nn.Conv2d(8, 4, 1)
        self.fails, self.seen = fails, []

    def forward(self, inputs, data_samples=None, mode='tensor'):
        features = self.backbone(inputs)
        if mode == 'tensor':
            return self.head(features)
        self.seen.append(self.training)
        if self.fails:
            raise KeyError('epoch')
        scores = self.auxiliary(features).mean((2, 3))
        return dict(loss=nn.functional.cross_entropy(scores, torch.zeros(len(scores), dtype=torch.int64)))


def _members(groups):
    return {group.name: {(member.module, member.axis) for member in group.members} for group in groups.groups}


@pytest.mark.parametrize('finest_scale', [56, 4])
def test_regions_keep_channels_apart(finest_scale):
    """Both levels, the extractor's own width and the head are one group, with regions on one level and on both."""
    torch.manual_seed(0)
    model = Regions(finest_scale)
    with torch.no_grad():
        groups, slim, outputs = masked_and_slim(model, tensor_forward(IMAGE))
    assert _members(groups) == {'fine': {('fine', 'out'), ('coarse', 'out'), ('extract', 'out'), ('head', 'in')}}
    assert slim.extract.out_channels == slim.fine.out_channels < 8
    assert_masked_equals_slim(outputs)


@pytest.mark.parametrize('kind', ['DeformConv2dPack', 'ModulatedDeformConv2dPack'])
def test_deformable_convolutions_are_pruned_on_both_sides(kind):
    """What makes their places stays whole; their inputs and outputs go like those of any convolution."""
    torch.manual_seed(0)
    with torch.no_grad():
        groups, slim, outputs = masked_and_slim(Deformable(kind), tensor_forward(IMAGE))
    assert _members(groups) == {
        'first': {('first', 'out'), ('deformed', 'in'), ('deformed.conv_offset', 'in')},
        'deformed': {('deformed', 'out'), ('last', 'in')},
    }
    assert slim.deformed.conv_offset.out_channels == Deformable(kind).deformed.conv_offset.out_channels
    assert_masked_equals_slim(outputs)


def test_inputs_in_deformable_groups_stay():
    """Which places an input channel is read at follows from its number."""
    groups = find_groups(Deformable('ModulatedDeformConv2dPack', deform_groups=2), tensor_forward(IMAGE))
    assert _members(groups) == {'deformed': {('deformed', 'out'), ('last', 'in')}}
    assert any('deformable groups' in layer.reason for layer in groups.dense)


@pytest.mark.parametrize(
    ('group_size', 'expected'), [(1, {'first': {('first', 'out'), ('weights', 'in'), ('last', 'in')}}), (2, {})]
)
def test_reassembly_keeps_channels_apart_in_one_group(group_size, expected):
    """In several, the group of a channel follows from its number."""
    torch.manual_seed(0)
    model = Upsampled(group_size)
    assert _members(find_groups(model, tensor_forward(IMAGE))) == expected
    with torch.no_grad():
        _, _, outputs = masked_and_slim(model, tensor_forward(IMAGE))
    assert_masked_equals_slim(outputs)


def test_deformable_attention_as_on_a_gpu():
    """Masked equals slim, and what makes the places stays whole."""
    torch.manual_seed(0)
    model = Attention()
    with torch.no_grad():
        groups, slim, outputs = masked_and_slim(model, tensor_forward(IMAGE))
    assert slim.places.out_features == model.places.out_features
    assert 'places' in {layer.module for layer in groups.dense}
    assert_masked_equals_slim(outputs)


def test_layers_that_only_losses_run_are_coupled():
    """An auxiliary head reads the backbone's channels, and shrinks with them; it runs in training mode."""
    model = WithAuxiliary()
    forward = tensor_forward(IMAGE, [])
    groups = find_groups(model, forward)
    assert _members(groups) == {'backbone': {('backbone', 'out'), ('head', 'in'), ('auxiliary', 'in')}}
    assert model.seen == []  # a copy was traced
    masks = ChannelMasks(groups, [torch.arange(8) > 3])
    apply_recipe(model, masks.recipe(model))
    assert model(IMAGE, mode='loss')['loss'].isfinite()


@pytest.mark.parametrize('forward', [tensor_forward(IMAGE), tensor_forward(IMAGE, [], annotated=False)])
def test_without_annotations_what_parts_hand_on_stays(forward):
    """A layer that was not reached may read it: nothing is guessed, and the reason names the layer."""
    groups = find_groups(WithAuxiliary(), forward)
    assert groups.groups == ()
    reasons = {layer.module: layer.reason for layer in groups.dense}
    assert reasons['backbone'] == (
        'may be read by `auxiliary`, which only the losses may run (TypeError: no annotations were given)'
    )


def test_losses_that_fail_leave_a_reason():
    """The error is named, and the groups are those without losses."""
    groups = find_groups(WithAuxiliary(fails=True), tensor_forward(IMAGE, []))
    assert groups.groups == ()
    assert any("KeyError: 'epoch'" in layer.reason for layer in groups.dense)


def test_running_losses_leaves_flags_and_random_states():
    """Training flags and the generators of Python, and batch normalisation never normalises by one image."""
    import random

    class Random(WithAuxiliary):
        def forward(self, inputs, data_samples=None, mode='tensor'):
            random.random()
            assert not self.norm.training
            assert self.training
            return super().forward(inputs, data_samples, mode)

    model = Random().eval()
    model.norm = nn.BatchNorm2d(2).eval()
    state = random.getstate()
    assert run_losses(tensor_forward(IMAGE, []), model) is None
    assert random.getstate() == state
    assert not model.training
    assert run_losses(lambda module: module(IMAGE), model) == 'this forward has none'


def test_annotations_follow_to_float64():
    """Boxes, as tensors and in containers, are of the model's precision, labels stay numbers, and the given stays."""
    from mmengine.structures import BaseDataElement, InstanceData

    class Boxes:
        """What mmdet wraps boxes in: a tensor that follows ``to``."""

        def __init__(self, tensor):
            self.tensor = tensor

        def to(self, *args, **kwargs):
            return Boxes(self.tensor.to(*args, **kwargs))

        def __len__(self):
            return len(self.tensor)

    class Seen(nn.Conv2d):
        def forward(self, inputs, data_samples=None, mode='tensor'):
            instances = data_samples[0].gt
            return super().forward(inputs), instances.scores, instances.boxes.tensor, instances.labels

    given = InstanceData(scores=torch.ones(2), boxes=Boxes(torch.ones(2, 4)), labels=torch.arange(2))
    samples = [BaseDataElement(gt=given, metainfo=dict(img_shape=(4, 4)))]
    outputs = tensor_forward(torch.ones(1, 3, 4, 4), samples)(Seen(3, 2, 1).double())
    assert [tensor.dtype for tensor in outputs] == [torch.float64] * 3 + [torch.int64]
    assert given.scores.dtype == given.boxes.tensor.dtype == torch.float32


@pytest.mark.parametrize(('runs', 'groups'), [(True, {'backbone'}), (False, {'backbone', 'auxiliary'})])
def test_groups_without_which_losses_fail_stay_whole(runs, groups):
    """Those to blame and no others, unless the masked model's losses fail as well."""
    found = find_groups(WithStoredAuxiliary(runs), tensor_forward(IMAGE, [0]))
    assert {group.name for group in found.groups} - {'scores'} == groups
    reasons = {layer.module: layer.reason for layer in found.dense}
    assert not runs or reasons['auxiliary'].startswith('a slim copy fails in its losses: RuntimeError')

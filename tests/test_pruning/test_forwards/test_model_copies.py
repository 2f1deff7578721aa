"""Laws of copying: what leaves a graph behind is no obstacle, and what cannot be copied is refused by name."""

import functools
import threading
from collections.abc import Callable

import pytest
import torch
from mmengine.runner.activation_checkpointing import turn_on_activation_checkpointing
from torch import Tensor, nn

from mmsharp.errors import MmsharpError
from mmsharp.pruning import ChannelMasks, ChannelPruner, find_groups, tensor_forward
from mmsharp.pruning.forwards.model_copies import model_copy
from mmsharp.pruning.slimming.copies import double_copy
from mmsharp.pruning.slimming.slim_difference import slim_difference

IMAGE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
ONE = tensor_forward(IMAGE[:1])


class Keeps(nn.Module):
    """Remembers its feature maps, in whatever form."""

    def __init__(self, form: Callable[[Tensor], object] = lambda feature: feature) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 4, 1)
        self.form = form

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x).relu()
        self.last = self.form(x)
        return self.c(self.b(x).relu())


class Box:
    """An object of a model's own."""

    def __init__(self, content: object) -> None:
        self.content, self.itself = content, self


def _holding(feature: Tensor) -> nn.Module:
    module = nn.Identity()
    module.held = feature
    return module


FORMS = {
    'a tensor': lambda feature: feature,
    'a list': lambda feature: [1, (feature, None)],
    'a dict': lambda feature: {'scales': {'fine': feature}},
    'an object': Box,
    'a module that is none of its own': lambda feature: [_holding(feature)],
}


def trained(model: nn.Module) -> nn.Module:
    """After a training step's forward and backward pass."""
    model.train()
    model(IMAGE).square().mean().backward()
    return model


@pytest.mark.parametrize('form', FORMS.values(), ids=FORMS)
def test_kept_feature_maps_are_no_obstacle(form) -> None:
    """Groups are found and removed as if they were not there, also late in a training; the model keeps them."""
    torch.manual_seed(0)
    model = trained(Keeps(form))
    kept, before = model.last, {name: value.clone() for name, value in model.state_dict().items()}
    groups = find_groups(model, ONE)
    assert [group.name for group in groups.groups] == ['a', 'b']
    masks = ChannelMasks(groups, [torch.arange(8) % 2 == 0, torch.arange(8) > 4])
    assert model.last is kept
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    masks.apply_(model)
    trained(model)
    assert slim_difference(model, masks.recipe(model), ONE) < 1e-12


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('norm', [nn.utils.weight_norm, nn.utils.spectral_norm], ids=lambda norm: norm.__name__)
@pytest.mark.parametrize('after_training', [False, True])
def test_weights_computed_by_hooks_stay(norm, after_training: bool) -> None:
    """In the old form of these norms the weight is no parameter: its layer stays, and the others lose channels."""
    torch.manual_seed(0)
    model = nn.Sequential(norm(nn.Conv2d(3, 8, 3)), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1))
    if after_training:
        trained(model)
    pruner = ChannelPruner(dict(channels=0.5), round_to=1)
    pruner.attach(model, ONE)
    pruner.update(1.0)
    assert [group.name for group in pruner.groups.groups] == ['2']
    assert pruner.verify(ONE) < 1e-12


def test_a_copy_is_one() -> None:
    """It computes the same, shares nothing, and ties what the model ties; a double one is double."""
    model = trained(Keeps())
    model.c2 = model.c
    model.view = model.last
    for copied, tolerance in ((model_copy(model), 0), (double_copy(model), 1e-5)):
        assert copied.c2 is copied.c
        assert copied.view is copied.last
        assert copied.last.grad_fn is None
        assert torch.equal(copied.last, model.last)
        assert copied.last.data_ptr() != model.last.data_ptr()
        assert (copied(IMAGE.to(copied.a.weight)) - model(IMAGE)).abs().max() <= tolerance
        assert copied.a.weight.data_ptr() != model.a.weight.data_ptr()


class Uncopied(nn.ReLU):
    """Does not want to be copied."""

    def __deepcopy__(self, memo: dict) -> nn.Module:
        raise NotImplementedError('there is one of me')


def with_lock() -> nn.Module:
    """A lock among its attributes, and a feature map."""
    model = trained(Keeps())
    model.a.guard = threading.Lock()
    return model


def with_hidden_lock() -> nn.Module:
    """A lock in a module that is in a list."""
    model = Keeps()
    model.b.others = [nn.ReLU()]
    model.b.others[0].guard = threading.Lock()
    return model


def on_meta() -> nn.Module:
    """Without numbers."""
    with torch.device('meta'):
        return Keeps()


REFUSED = {
    'a lock': (with_lock, r"attribute 'guard' of module 'a' \(Conv2d\) of Keeps is a lock.*keep that outside"),
    'a hidden lock': (with_hidden_lock, r"attribute 'others' of module 'b' \(Conv2d\) of Keeps is a list"),
    'its own refusal': (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3), Uncopied(), nn.Conv2d(8, 2, 1)),
        r"module '1' \(Uncopied\) of Sequential refuses \(NotImplementedError: there is one of me\)",
    ),
    'lazy': (
        lambda: nn.Sequential(nn.LazyConv2d(8, 3), nn.ReLU(), nn.Conv2d(8, 2, 1)),
        r"module '0' \(LazyConv2d\) of Sequential is lazy.*'weight' has no shape yet; run the model once",
    ),
    'meta': (on_meta, r"module 'a' \(Conv2d\) of Keeps has its 'weight' on the meta device.*to_empty"),
    'scripted': (lambda: torch.jit.script(nn.Sequential(nn.Conv2d(3, 8, 3))), 'itself is scripted.*give the module'),
    'scripted in part': (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3), torch.jit.script(nn.ReLU()), nn.Conv2d(8, 2, 1)),
        r"module '1' \(RecursiveScriptModule\) of Sequential is scripted",
    ),
}


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('name', REFUSED)
def test_what_cannot_be_copied_is_named(name: str) -> None:
    """The module and what is the matter, wherever a copy is needed; on one line."""
    build, match = REFUSED[name]
    model = build()
    for needing in (
        lambda: find_groups(model, ONE),
        lambda: ChannelPruner(dict(channels=0.5)).attach(model, ONE),
        lambda: model_copy(model),
        lambda: double_copy(model),
    ):
        with pytest.raises(MmsharpError, match=match) as caught:
            needing()
        assert '\n' not in str(caught.value)


@pytest.mark.filterwarnings('ignore::UserWarning')  # of reentrant checkpoints, which MMEngine asks for
def test_a_copy_under_activation_checkpointing_runs_its_own_layers() -> None:
    """And has the same groups: MMEngine wraps the original's forward into a function that copying keeps as it is."""
    model = nn.Sequential(nn.Sequential(nn.Conv2d(1, 8, 1), nn.ReLU()), nn.Conv2d(8, 1, 1)).eval()
    image = torch.randn(1, 1, 4, 4)
    expected, groups = model(image), find_groups(model, tensor_forward(image))
    turn_on_activation_checkpointing(model, ['0'])
    copied = model_copy(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(copied(image), expected)
    assert not model(image).any()
    model.load_state_dict(copied.state_dict())
    found = find_groups(model, tensor_forward(image))
    assert [group.channels for group in found.groups] == [group.channels for group in groups.groups] == [8]


def test_other_functions_around_a_forward_are_not_undone() -> None:
    """What they compute belongs to the model: no channel that passes them is found, and none is lost."""
    model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 8, 1)), nn.Conv2d(8, 4, 1)).eval()
    inner = model[0].forward

    @functools.wraps(inner)
    def normalised(x: Tensor) -> Tensor:
        return inner(x).softmax(1)

    model[0].forward = normalised
    assert find_groups(model, ONE).groups == ()

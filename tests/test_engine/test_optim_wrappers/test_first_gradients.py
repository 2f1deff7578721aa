"""The gradients of the first pass: they touch no others, and may be overwritten one by one."""

import copy

import pytest
import torch
from mmengine.model import BaseModel
from small_network import Network, batch, wrapped
from torch import nn

from mmsharp.engine.optim_wrappers import SAMOptimWrapper
from mmsharp.errors import MmsharpError
from mmsharp.sharpness import ASAM, SAM, AdaSAP, LookSAM, select_parameters


def test_accumulated_gradients_are_not_touched_by_the_first_pass():
    """Two micro-batches: .grad is the mean of the gradients at each one's own w + eps."""
    model = Network(dropout=0.0)
    twin = copy.deepcopy(model)
    wrapper = SAMOptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1), ascent=SAM(rho=0.1), accumulative_counts=2)
    model.train_step(batch(0), wrapper)
    model.train_step(batch(1), wrapper)

    parameters = [p for p in select_parameters(twin) if not p.name.startswith('unused')]
    total = [torch.zeros_like(parameter.tensor) for parameter in parameters]
    for seed in (0, 1):
        tensors = [parameter.tensor for parameter in parameters]
        gradients = torch.autograd.grad(twin(**batch(seed))['loss'], tensors)
        norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
        moved = copy.deepcopy(twin)
        for parameter, gradient in zip(parameters, gradients):
            moved.get_parameter(parameter.name).data.add_(0.1 * gradient / norm)
        targets = [moved.get_parameter(parameter.name) for parameter in parameters]
        for sum_, gradient in zip(total, torch.autograd.grad(moved(**batch(seed))['loss'], targets)):
            sum_.add_(gradient / 2)
    for parameter, gradient in zip(parameters, total):
        torch.testing.assert_close(
            model.get_parameter(parameter.name), parameter.tensor - 0.1 * gradient, rtol=1e-6, atol=1e-7
        )


def test_a_step_abandoned_in_the_middle_leaves_nothing_to_look_sam():
    """First gradients of a micro-batch whose step never came do not enter the next one."""
    ends = []
    for abandoned in (False, True):
        model = Network(dropout=0.0)
        start = copy.deepcopy(model.state_dict())
        wrapper = wrapped(model, SAM(), policy=LookSAM(interval=2))
        if abandoned:
            with wrapper.optim_context(model):
                loss = model(**batch(9))['loss']
            wrapper.backward(loss)
            wrapper.zero_grad()
            wrapper.initialize_count_status(model, 0, -1)
            model.load_state_dict(start)
        for step in range(3):
            model.train_step(batch(step), wrapper)
        ends.append(model.layers[0].weight.detach())
    assert torch.equal(*ends)


class Aliased(BaseModel):
    """Autograd hands out one gradient for both summands, and an expanded one for the sum over a parameter."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first, self.second, self.idle = (nn.Parameter(torch.randn(3, 4, generator=generator)) for _ in range(3))

    def forward(self, inputs, data_samples=None, mode='loss'):
        return dict(loss=((self.first + self.second) ** 3).sum() + 0.01 * self.idle.sum())


@pytest.mark.parametrize('ascent', [SAM(rho=0.05), ASAM(rho=0.5), AdaSAP(), AdaSAP(norm_scope='global')])
def test_gradients_that_share_memory_are_turned_one_by_one(ascent):
    """What is done to one summand's gradient is not done to the other's as well."""
    model = Aliased()
    start = copy.deepcopy(model)
    model.train_step(batch(), SAMOptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1), ascent=ascent))
    parameters = select_parameters(start, 'all')
    gradients = [g.clone() for g in torch.autograd.grad(start(None)['loss'], [p.tensor for p in parameters])]
    ascent.perturb_(parameters, gradients, [None] * 3)
    moved = copy.deepcopy(start)
    for parameter, eps in zip(moved.parameters(), gradients):
        parameter.data.add_(eps)
    moved(None)['loss'].backward()
    for ours, before, other in zip(model.parameters(), start.parameters(), moved.parameters()):
        torch.testing.assert_close(ours, before - 0.1 * other.grad)


def test_a_sparse_gradient_is_named():
    """Before anything is moved, with what to do."""

    class Embedding(BaseModel):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(4, 2, sparse=True)

        def forward(self, inputs, data_samples=None, mode='loss'):
            return dict(loss=self.table(inputs).square().sum())

    model = Embedding()
    with pytest.raises(MmsharpError, match=r"'table\.weight' is sparse.*sparse=False"):
        model.train_step(dict(inputs=torch.tensor([0, 1])), wrapped(model, SAM(), weight_decay=0.0))


class Reversible(torch.autograd.Function):
    """Computes its layer again in the backward pass, and calls that layer's backward pass itself."""

    @staticmethod
    def forward(context, inputs, layer):
        context.save_for_backward(inputs)
        context.layer = layer
        with torch.no_grad():
            return layer(inputs)

    @staticmethod
    def backward(context, gradient):
        (saved,) = context.saved_tensors
        inputs = saved.detach().requires_grad_()
        with torch.enable_grad():
            context.layer(inputs).backward(gradient)
        return inputs.grad, None


@pytest.mark.parametrize('counts', [1, 2])
def test_a_layer_with_a_backward_pass_of_its_own_is_refused(counts):
    """Its parameters would not move, and get the gradient at w on top of that at w + eps; accumulated or not."""

    class Own(Network):
        is_reversible = False

        def forward(self, inputs, data_samples=None, mode='loss'):
            features = self.layers[:5](inputs)
            outputs = Reversible.apply(features, self.layers[5]) if self.is_reversible else self.layers[5](features)
            return dict(loss=outputs.square().mean())

    model = Own(dropout=0.0)
    wrapper = wrapped(model, SAM(), accumulative_counts=counts)
    for step in range(counts - 1):
        model.train_step(batch(step), wrapper)  # from here on there are gradients
    model.is_reversible = True
    with pytest.raises(MmsharpError, match=r"gradient of 'layers\.5\.weight'.*backward pass of its own"):
        model.train_step(batch(2), wrapper)

"""A pruning criterion decides AdaSAP's radii."""

import copy

import pytest
import torch
from mmengine.model import BaseModel
from torch import nn

from mmsharp.engine.optim_wrappers import SAMOptimWrapper
from mmsharp.engine.optim_wrappers.criterion_scores import CriterionScores
from mmsharp.engine.optim_wrappers.gradients_of_step import gradients_of_step
from mmsharp.errors import MmsharpError
from mmsharp.pruning import find_groups, tensor_forward
from mmsharp.registry import CRITERIA, POLICIES, build_part
from mmsharp.sharpness import AdaSAP, select_parameters


class Network(BaseModel):
    """Convolutions of several kinds, a linear layer, and an attention that no criterion knows."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(2, 4, 3),
            nn.Conv2d(4, 4, 1, groups=4),
            nn.ConvTranspose2d(4, 6, 2),
            nn.Flatten(),
            nn.Linear(54, 4),
        )
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, inputs, data_samples=None, mode='loss'):
        outputs = self.layers(inputs)[:, None]
        return dict(loss=self.attention(outputs, outputs, outputs)[0].square().mean())


def trained(score):
    model = Network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    wrapper = SAMOptimWrapper(optimizer, ascent=dict(type='AdaSAP', score=score))
    inputs = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    for _ in range(3):
        model.train_step(dict(inputs=inputs), wrapper)
    return torch.cat([parameter.flatten() for parameter in model.parameters()])


@pytest.mark.parametrize(('criterion', 'plain'), [(dict(type='Magnitude'), 'l2'), (dict(type='Magnitude', p=1), 'l1')])
def test_magnitude_is_what_the_built_in_score_computes(criterion, plain):
    """The same radii, whichever way; layers that the criterion does not know are scored by l2."""
    ours, theirs = trained(criterion), trained(plain)
    if plain == 'l2':
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    else:  # the attention's projection differs
        parts = sum(parameter.numel() for parameter in Network().layers.parameters())
        assert not torch.equal(ours, trained('l2'))
        torch.testing.assert_close(ours[:parts], theirs[:parts], rtol=0.05, atol=0.01)


@pytest.mark.parametrize('name', sorted(CRITERIA.module_dict))
def test_every_registered_criterion_gives_one_score_per_channel(name):
    """For each layer of the table, on the parameter's device."""
    model = Network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    parameters = select_parameters(model, 'weights')
    score = CriterionScores(model, build_part(CRITERIA, dict(type=name)), optimizer, lambda: parameters)
    for parameter in parameters:
        score(parameter)
    model(torch.randn(3, 2, 4, 4))['loss'].backward()
    optimizer.step()
    found = {parameter.name: score(parameter) for parameter in parameters}
    assert [len(found[f'layers.{index}.weight']) for index in (0, 1, 2, 4)] == [4, 4, 6, 4]
    assert found['attention.in_proj_weight'] is None


@pytest.mark.parametrize(
    'name', sorted(name for name, kind in CRITERIA.module_dict.items() if kind.__module__.startswith('mmsharp.'))
)
def test_coupled_channels_have_the_score_of_their_group(name):
    """Both ends of a residual sum have one, whatever the criterion; other layers are judged as without groups."""

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.stem, self.inner, self.outer = nn.Conv2d(2, 6, 1), nn.Conv2d(6, 4, 1), nn.Conv2d(4, 6, 1)
            self.norm, self.head = nn.BatchNorm2d(6), nn.Linear(6, 3)

        def forward(self, inputs):
            features = self.stem(inputs)
            return self.head((features + self.norm(self.outer(self.inner(features)))).mean(dim=(2, 3)))

    model, inputs = Residual(), torch.randn(3, 2, 4, 4)
    nn.init.uniform_(model.norm.weight, 0.5, 2.0)
    groups = find_groups(model, tensor_forward(inputs)).groups
    parameters = [p for p in select_parameters(model, 'weights') if not p.name.startswith('norm')]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    coupled, alone = (
        CriterionScores(model, build_part(CRITERIA, dict(type=name)), optimizer, lambda: parameters, known)
        for known in (groups, ())
    )
    model(inputs).square().mean().backward()
    optimizer.step()
    found = {p.name: coupled(p) for p in parameters}
    assert 'stem' in [group.name for group in groups]
    assert torch.equal(found['stem.weight'], found['outer.weight'])
    if name == 'Magnitude':
        lengths = [layer.weight.detach().flatten(1).norm(dim=1) for layer in (model.stem, model.outer)]
        torch.testing.assert_close(found['stem.weight'], torch.stack(lengths).mean(dim=0))
    if name == 'BatchNormScale':
        torch.testing.assert_close(found['stem.weight'], model.norm.weight.detach())
    if name != 'Random':
        assert torch.equal(found['head.weight'], alone(parameters[-1]))
        assert not torch.equal(found['stem.weight'], alone(parameters[0]))


def test_groups_that_no_gradient_was_seen_of_are_judged_by_their_layers():
    """As after a run that was begun without `coupled`, whose sums are those of layers."""
    torch.manual_seed(0)
    model, inputs = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)), torch.randn(3, 4)
    parameters = select_parameters(model, 'weights')
    groups = find_groups(model, tensor_forward(inputs)).groups
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    alone, coupled = (
        CriterionScores(model, build_part(CRITERIA, dict(type='Taylor')), optimizer, lambda: parameters, known)
        for known in ((), groups)
    )
    model(inputs).square().mean().backward()
    alone._observe(optimizer)
    coupled.load_state_dict(alone.state_dict())
    assert torch.equal(coupled(parameters[0]), alone(parameters[0]))


def test_a_criterion_that_gives_no_number_per_channel_is_named():
    """Before anything is perturbed."""
    model = Network()
    parameters = select_parameters(model, 'weights')
    for scores in (torch.ones(3), torch.tensor([1.0, torch.nan, 1.0, 1.0])):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        score = CriterionScores(model, lambda model, group, scores=scores: scores, optimizer, lambda: parameters)
        with pytest.raises(MmsharpError, match=r'4 channels of .layers\.0'):
            score(parameters[0])


def test_without_a_model_the_criterion_is_refused():
    """AdaSAP alone does not know the layers."""
    parameters = select_parameters(nn.Linear(2, 2), 'weights')
    with pytest.raises(MmsharpError, match='score_by'):
        AdaSAP(score=dict(type='Magnitude')).perturb_(parameters, [torch.ones(2, 2)], [None])
    with pytest.raises(MmsharpError, match=r'Magnitude'):
        AdaSAP(score='taylor')


@pytest.mark.parametrize('policy', sorted(POLICIES.module_dict))
def test_a_criterion_of_gradients_is_shown_them_and_resumes_bitwise(policy):
    """Taylor scores by l2 in the first step, by what it has seen after; that rides in the wrapper's state.

    Whatever layers the steps perturb: the gradients of all are seen.
    """
    steps = 12
    inputs = [torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(seed)) for seed in range(steps)]

    def make(model, score):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        ascent = dict(type='AdaSAP', score=score, rho_max=0.3)
        return SAMOptimWrapper(optimizer, ascent=ascent, policy=dict(type=policy))

    ends = {}
    for name, score in (('taylor', dict(type='Taylor')), ('l2', 'l2')):
        model = Network()
        wrapper = make(model, score)
        wrapper.initialize_count_status(model, 0, steps)
        for step in range(steps):
            model.train_step(dict(inputs=inputs[step]), wrapper)
            ends[name, step] = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
            if step == 1:
                saved = copy.deepcopy((model.state_dict(), wrapper.state_dict()))
        if name == 'taylor':
            other = Network()
            other.load_state_dict(saved[0])
            resumed = make(other, score)
            resumed.load_state_dict(saved[1])
            resumed.initialize_count_status(other, 2, steps)
            for step in range(2, steps):
                other.train_step(dict(inputs=inputs[step]), resumed)
            end = torch.cat([parameter.detach().flatten() for parameter in other.parameters()])
            assert ends['taylor', steps - 1].isfinite().all()
            assert torch.equal(end, ends['taylor', steps - 1])
    assert torch.equal(ends['taylor', 0], ends['l2', 0])
    assert not torch.equal(ends['taylor', steps - 1], ends['l2', steps - 1])


@pytest.mark.parametrize('state', [dict(sums={}), dict(criterion={}, layers=3), dict(criterion={}, layers=['a', 1])])
def test_a_state_that_is_not_ours_is_refused(state):
    """By what was expected, before anything is taken over."""
    model = nn.Sequential(nn.Linear(4, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scores = CriterionScores(model, build_part(CRITERIA, dict(type='Taylor')), optimizer, lambda: [])
    with pytest.raises(MmsharpError, match='expected criterion and a list of layers, found'):
        scores.load_state_dict(state)
    assert scores.state_dict() == {}


@pytest.mark.parametrize('fused', [False, True])
def test_a_gradient_scaler_changes_no_score(fused):
    """A fused optimizer unscales by itself, and is asked to step even where gradients have overflowed."""
    found = []
    for scale in (None, 1024.0, 2.0**127):
        model = nn.Sequential(nn.Linear(4, 2))
        nn.init.constant_(model[0].weight, 0.5)
        optimizer = torch.optim.Adam(model.parameters(), fused=fused)
        parameters = select_parameters(model, 'weights')
        scores = CriterionScores(model, build_part(CRITERIA, dict(type='Taylor')), optimizer, lambda p=parameters: p)
        scaler = torch.amp.GradScaler('cpu', init_scale=scale or 1.0, enabled=scale is not None)
        scaler.scale(model(torch.full((1, 4), 4.0)).sum()).backward()
        scaler.step(optimizer)
        found.append(scores(parameters[0]))
    assert found[0] is not None
    assert torch.equal(found[0], found[1])
    assert found[2] is None


def test_half_precision_is_unscaled_with_the_usual_scale():
    """65536 is beyond float16, its quotients are not."""
    parameter = nn.Parameter(torch.zeros(1, dtype=torch.float16))
    parameter.grad = torch.full((1,), 64.0, dtype=torch.float16)
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    optimizer.grad_scale, optimizer.found_inf = torch.tensor(65536.0), torch.tensor(0.0)
    with gradients_of_step(optimizer) as steps:
        assert (steps, float(parameter.grad)) == (True, 64 / 65536)
    assert float(parameter.grad) == 64
    optimizer.found_inf = torch.tensor(1.0)
    with gradients_of_step(optimizer) as steps:
        assert not steps


def test_a_layer_that_the_steps_have_not_used_has_no_score():
    """No gradient is not a score of 0: such a layer is scored by l2, until it has one."""
    model = Network()
    parameters = {parameter.name: parameter for parameter in select_parameters(model, 'weights')}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scores = CriterionScores(
        model, build_part(CRITERIA, dict(type='Taylor')), optimizer, lambda: list(parameters.values())
    )
    used, unused = parameters['layers.0.weight'], parameters['layers.4.weight']
    assert scores(used) is scores(unused) is None
    model.layers[:3](torch.ones(1, 2, 4, 4)).square().mean().backward()
    optimizer.step()
    assert scores(used).any()
    assert scores(unused) is None
    model.layers(torch.ones(1, 2, 4, 4)).square().mean().backward()
    optimizer.step()
    assert scores(unused).any()


class Normalised(BaseModel):
    """Convolutions with BatchNorm behind them, of which one is behind nothing."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 1), nn.Flatten(), nn.Linear(12, 1)
        )
        nn.init.uniform_(self.layers[1].weight, 0.5, 1.5)

    def forward(self, inputs, data_samples=None, mode='loss'):
        return dict(loss=self.layers(inputs).square().mean())


def test_behind_batch_normalisation_taylor_reads_the_normalisation():
    """``|gamma dL/dgamma + beta dL/dbeta|``: of the filters the same product is 0, whatever they are worth."""
    model = Normalised()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    wrapper = SAMOptimWrapper(optimizer, ascent=dict(type='AdaSAP', score=dict(type='Taylor')))
    seen = []

    def look(*_):
        conv, norm, bare = (model.layers[index] for index in (0, 1, 3))
        of_norm = (norm.weight * norm.weight.grad + norm.bias * norm.bias.grad).abs()
        of_filters = (conv.weight * conv.weight.grad).flatten(1).sum(1).abs()
        seen.append([part.detach().clone() for part in (of_norm, of_filters)])
        seen[-1].append((bare.weight * bare.weight.grad).flatten(1).sum(1).abs().detach().clone())

    optimizer.register_step_pre_hook(look)
    for seed in range(3):
        inputs = torch.randn(6, 2, 4, 4, generator=torch.Generator().manual_seed(seed))
        model.train_step(dict(inputs=inputs), wrapper)
    scores = {parameter.name: wrapper._scores(parameter) for parameter in wrapper._moved.selected}
    of_norm, of_filters, of_bare = (torch.stack(parts).mean(0) for parts in zip(*seen))
    torch.testing.assert_close(scores['layers.0.weight'], of_norm)
    torch.testing.assert_close(scores['layers.3.weight'], of_bare)
    assert of_filters.mean() < 0.2 * of_norm.mean()

"""GoogLeNet is torchvision's, without its classifiers, in the form of a backbone."""

import pytest
import torch
from mmengine.registry import MODELS

from mmsharp.errors import MmsharpError
from mmsharp.models import GoogLeNet


@pytest.mark.filterwarnings('ignore')
def test_the_maps_are_torchvision_s():
    """With its weights, the last map's mean through its classifier gives its logits."""
    from torchvision.models import googlenet

    theirs = googlenet(weights=None, aux_logits=False, init_weights=False, num_classes=4).eval()
    ours = GoogLeNet().eval()
    missing, extra = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert not missing
    assert {key.partition('.')[0] for key in extra} == {'fc'}
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(theirs.fc(ours(image)[0].mean(dim=(2, 3))), theirs(image))


def test_stages_halve_the_map():
    """Channels and strides of every stage, and the form for small images."""
    network = MODELS.build(dict(type='mmsharp.GoogLeNet', out_indices=(0, 1, 2, 3))).eval()
    with torch.no_grad():
        maps = network(torch.zeros(1, 3, 64, 64))
    assert [tuple(map_.shape[1:]) for map_ in maps] == [(192, 8, 8), (480, 4, 4), (832, 2, 2), (1024, 2, 2)]


def test_other_stages_are_refused():
    """By number."""
    with pytest.raises(MmsharpError, match=r'out_indices \(4,\) of GoogLeNet are not among 0 to 3'):
        GoogLeNet(out_indices=(4,))

# AdaSAP with the radii that are reported of the paper on ImageNet: absolute, 0.01 to 2.0, then ASAM with 2.0.
# Two public re-implementations have them, one the first two as its defaults, the other the last (scripts/main.sh of
# github.com/ia-gu/pruning_test); the paper's own words could not be read, and of other networks none are reported.
# Why the other configs have smaller and relative ones: configs/_base_/in1k.py.
_base_ = './resnet50_in1k.py'

optim_wrapper = dict(ascent=dict(radius='absolute', rho_min=0.01, rho_max=2.0))
default_hooks = dict(pruning=dict(fine_tuning=dict(type='ASAM', rho=2.0)))

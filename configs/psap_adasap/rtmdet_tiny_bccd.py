# What PSAP chooses and protects, trained as AdaSAP trains: a combination of our own.
_base_ = '../psap/rtmdet_tiny_bccd.py'

optim_wrapper = dict(type='mmsharp.SAMOptimWrapper', ascent=dict(type='AdaSAP'))
default_hooks = dict(pruning=dict(fine_tuning=dict(type='ASAM', rho=0.5)))

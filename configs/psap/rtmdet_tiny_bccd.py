# PSAP, as we read it, on the dense detector of configs/dense/rtmdet_tiny_bccd.py.
_base_ = '../magnitude/rtmdet_tiny_bccd.py'

default_hooks = dict(pruning=dict(_delete_=True, type='mmsharp.PSAPHook', budget=dict(params=0.4)))

# Taylor scores, ASAM in every phase, to 0.40 of the parameters.
_base_ = '../taylor/rtmdet_tiny_bccd.py'

optim_wrapper = dict(type='mmsharp.SAMOptimWrapper', ascent=dict(type='ASAM'))

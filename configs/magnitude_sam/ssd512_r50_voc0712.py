# L2 magnitude, SAM in every phase, to 0.40 of the parameters.
_base_ = '../magnitude/ssd512_r50_voc0712.py'

optim_wrapper = dict(type='mmsharp.SAMOptimWrapper', ascent=dict(type='SAM'))

# For detectors on Pascal VOC: trainval of 2007 and 2012 in, test of 2007 out.
#     data/VOCdevkit/VOC2007, data/VOCdevkit/VOC2012, as they are unpacked
_base_ = 'robustness/voc_c.py'

custom_imports = dict(imports=['mmsharp'], allow_failed_imports=False)
randomness = dict(seed=0)

# For the heirs that prune. AdaSAP's lengths for detectors are not reported: these are the defaults of the hook.
voc_pruning = dict(
    type='mmsharp.PruningHook',
    budget=dict(params=0.4),
    warmup=0.1,
    pruning=0.3,
    interval=30,
)

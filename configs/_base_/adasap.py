# AdaSAP for any config: put this file into `_base_` beside the config of a detector or classifier, and `load_from` its
# trained weights. Lengths: a float is a share of the training, an int a number of epochs.
custom_imports = dict(imports=['mmsharp'], allow_failed_imports=False)
optim_wrapper = dict(type='mmsharp.SAMOptimWrapper', ascent=dict(type='AdaSAP', rho_min=0.01, rho_max=0.2))
default_hooks = dict(
    pruning=dict(
        type='mmsharp.AdaSAPHook',
        budget=dict(params=0.4),
        warmup=0.1,
        pruning=0.3,
        interval=30,
        fine_tuning=dict(type='ASAM', rho=0.5),
    )
)

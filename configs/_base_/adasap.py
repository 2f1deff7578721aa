# AdaSAP with all its settings, for any detector or classifier. MMEngine allows no key in two bases, and every config
# has an `optim_wrapper` and `default_hooks` already: the two come under names of their own, for the heir to merge.
#
#     _base_ = ['my_detector.py', 'path/to/configs/_base_/adasap.py']
#     load_from = 'my_detector.pth'
#     optim_wrapper = {{_base_.adasap_optim_wrapper}}
#     default_hooks = {{_base_.adasap_hooks}}
#
# A config with `custom_imports` of its own cannot have this base beside it, by the same rule: add 'mmsharp' to its
# imports and write the two dictionaries into it.
#
# Lengths: a float is a share of the training, an int a number of epochs (of iterations in iteration loops).
custom_imports = dict(imports=['mmsharp'], allow_failed_imports=False)
adasap_optim_wrapper = dict(
    type='mmsharp.SAMOptimWrapper',  # mmsharp.AmpSAMOptimWrapper for mixed precision
    ascent=dict(
        type='AdaSAP',
        rho_min=None,  # 0.005 of the norm of a channel, or 0.01 with radius='absolute'
        rho_max=None,  # 0.05, or 0.2
        radius='relative',
        score='l2',
        score_interval=1,
        coupled=False,
        form='asam',
        norm_scope='neuron',
        score_scope='layer',
        eta=0.01,
        denominator=None,  # of radius='absolute'
    ),
    policy=dict(type='EveryStep'),
    parameters=None,  # what the ascent moves: weights for AdaSAP
    synchronise=False,
    skip_nonfinite=False,
)
adasap_hooks = dict(
    pruning=dict(
        type='mmsharp.AdaSAPHook',
        budget=dict(params=0.4),
        pruner=dict(
            type='mmsharp.ChannelPruner',
            criterion=dict(type='mmsharp.Magnitude'),
            allocation=dict(type='mmsharp.Global'),
            schedule=dict(type='mmsharp.FORCE'),
            min_channels=1,
            min_share=0.0,
            round_to=8,
            ignore=[],
            latency_table=None,  # of budget=dict(latency=...)
        ),
        warmup=0.1,
        pruning=0.3,
        interval=30,
        slim=True,
        fine_tuning=dict(type='ASAM', rho=0.5),
    )
)

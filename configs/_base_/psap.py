# PSAP with all its settings, for any detector or classifier: our reading of a paper whose formulas could not be read
# (docs/prune.md says which part is whose). MMEngine allows no key in two bases, and every config has `default_hooks`
# already: these come under a name of their own, for the heir to merge.
#
#     _base_ = ['my_detector.py', 'path/to/configs/_base_/psap.py']
#     load_from = 'my_detector.pth'  # without: default_hooks.pruning.pruning=0.75, as the *_scratch.py configs
#     default_hooks = {{_base_.psap_hooks}}
#
# A config with `custom_imports` of its own cannot have this base beside it, by the same rule: add 'mmsharp' to its
# imports and write the dictionary into it. With a sharpness-aware `optim_wrapper`, such as that of adasap.py, the
# filters are chosen and protected as here and trained as there; that combination is ours.
#
# Lengths: a float is a share of the training, an int a number of epochs (of iterations in iteration loops).
custom_imports = dict(imports=['mmsharp'], allow_failed_imports=False)
psap_hooks = dict(
    pruning=dict(
        type='mmsharp.PSAPHook',
        budget=dict(macs=0.5),
        pruner=dict(
            type='mmsharp.ChannelPruner',
            criterion=dict(type='mmsharp.Magnitude'),
            allocation=dict(type='mmsharp.SparsityRatio', alpha=0.25, scope='layer', max_ratio=0.9),
            schedule=dict(type='mmsharp.Linear'),
            round_to=8,
        ),
        protection=dict(
            type='mmsharp.ProtectiveReconstruction',
            kappa=1.0,
            gate=False,
            among='zeroed',
            refill=False,
            watch=1,
            memory=0.9,
            weight=1.0,
        ),
        warmup=0.0,
        pruning=0.25,
        hard=0.0,
        ramp=2 / 3,
        interval=None,  # about an epoch, or an eighth of the soft phase
        slim=True,
        limit_regrowth=True,
        clear_momentum=True,
        measure_whole=True,
        fine_tuning=None,  # an ascent for the small network, with a sharpness-aware optim_wrapper
    )
)

# C-SAM with all its settings, for any classifier: our reading of a paper whose formulas could not be read (docs/csam.md
# says what is confirmed and what is ours). MMEngine allows no key in two bases: these come under names of their own,
# for the heir to merge.
#
#     _base_ = ['my_classifier.py', 'path/to/configs/_base_/csam.py']
#     load_from = 'my_classifier.pth'
#     model = dict(type='mmsharp.MaskSearch', base='ImageClassifier', search={{_base_.csam_search}})
#     optim_wrapper = dict(paramwise_cfg={{_base_.csam_paramwise}})
#     default_hooks = {{_base_.csam_hooks}}
#
# `base` is the type that the model had. A config with `custom_imports` of its own cannot have this base beside it, by
# the same rule: add 'mmsharp' to its imports and write the dictionaries into it.
#
# Lengths: a float is a share of the training, an int a number of epochs (of iterations in iteration loops).
_base_ = 'csam_parts.py'

custom_imports = dict(imports=['mmsharp'], allow_failed_imports=False)

# HALP, to 0.50 of the latency on your device, which is measured first, at the batch size that counts for you:
#     python tools/analysis_tools/latency_table.py configs/dense/mobilenetv1_in1k.py \
#         --shape 224 --device cuda --batch 1 --out data/mobilenetv1_in1k_latency.json
# The paper's levels are those of its device and were not found; another is
#     --cfg-options default_hooks.pruning.budget.latency=0.7
_base_ = '../magnitude/mobilenetv1_in1k.py'

default_hooks = dict(
    pruning=dict(
        budget=dict(_delete_=True, latency=0.5),
        pruner=dict(latency_table='data/mobilenetv1_in1k_latency.json', **_base_.in1k_halp),
    )
)

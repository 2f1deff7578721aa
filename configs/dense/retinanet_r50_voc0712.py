# RetinaNet as mmdet ships it for Pascal VOC: four epochs of the data three times over.
_base_ = ['mmdet::pascal_voc/retinanet_r50_fpn_1x_voc0712.py', '../_base_/voc0712.py']

default_hooks = dict(checkpoint=dict(max_keep_ckpts=2))

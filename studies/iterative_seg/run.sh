#!/bin/sh
# Everything of this study, from the repository's root: sh studies/iterative_seg/run.sh
set -eu
here=studies/iterative_seg out=runs/iterative_seg
base=studies/seg_shapes/yolov8n-seg-shapes.pt data=studies/seg_shapes/data/data.yaml
python studies/seg_shapes/make_data.py
rm -rf $out
paretoprune prune $here/steps.yaml
cp $out/steps/steps.csv $here/steps.csv
paretoprune finetune $out/steps/pruned.pt data=$data base=$base epochs=3 out=$out/finetuned.pt
paretoprune export $out/finetuned.pt data=$data base=$base quantize=8,32 out=$out/exported
paretoprune compare $base $out/steps/pruned.pt $out/finetuned.pt $out/exported/finetuned_int8.onnx data=$data imgsz=160 \
  -f json >$here/compare.json
paretoprune search $here/study.yaml

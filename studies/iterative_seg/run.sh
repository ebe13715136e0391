#!/bin/sh
# Everything of this study, from the repository's root: sh studies/iterative_seg/run.sh
set -eu
here=studies/iterative_seg out=runs/iterative_seg run=runs/prune/iterative-seg
base=studies/seg_shapes/yolov8n-seg-shapes.pt data=studies/seg_shapes/data/data.yaml
python studies/seg_shapes/make_data.py
rm -rf $out $run
# 1. ten steps, as the write-up has them, and a fine-tune of the last
paretoprune prune $here/steps.yaml
cp $out/steps/steps.csv $here/steps.csv
paretoprune finetune $out/steps/pruned.pt data=$data base=$base epochs=3 out=$out/finetuned.pt
# 2. pruning and INT8 on one front; the pick within the write-up's cuts, and the same fine-tune
paretoprune search $here/study.yaml
cp $run/pareto.csv $out/front.csv
paretoprune pick $run --budget published
paretoprune finetune $run:published epochs=3
# 3. side by side
paretoprune compare $base $out/steps/pruned.pt $out/finetuned.pt $run/picks/published/model.pt \
  $run/picks/published/finetuned.pt data=$data imgsz=160 -f json >$here/compare.json

#!/bin/sh
# Everything of this study, from the repository's root: sh studies/manual_batch/run.sh
set -eu
here=studies/manual_batch out=runs/manual_batch
base=studies/digits/yolov8n-digits.pt data=studies/digits/data/data.yaml
python studies/digits/make_data.py
rm -rf $out/batch
paretoprune prune $here/batch.yaml
paretoprune finetune $out/batch/pruned.pt data=$data base=$base epochs=1
paretoprune compare $base $out/batch/pruned.pt $out/batch/pruned-finetuned.pt data=$data imgsz=128 \
  -f json >$here/compare.json
cp $out/batch/groups.csv $here/groups.csv
paretoprune search $here/study.yaml

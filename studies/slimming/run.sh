#!/bin/sh
# Everything of this study, from the repository's root: sh studies/slimming/run.sh
# Shorter: RATIOS=0.3 EPOCHS=2 TUNE=1 EXPORT=no sh studies/slimming/run.sh
set -eu
here=studies/slimming out=runs/slimming
base=studies/digits/yolov8n-digits.pt data=studies/digits/data/data.yaml
python studies/digits/make_data.py
rm -rf $out
mkdir -p $out
# 1. sparsity training: an L1 penalty on the batch norms' scales
paretoprune finetune $base data=$data epochs=${EPOCHS:-8} lr0=0.002 slimming=0.01 distill=false out=$out/sparse.pt
models=$base
for ratio in ${RATIOS:-0.1 0.2 0.3}; do
  # 2. prune by scale: the channels of all layers compete
  paretoprune prune model=$out/sparse.pt ratio=$ratio importance=bn_gamma ranking=global imgsz=128 out=$out/$ratio
  # 3. fine-tune, the unpruned base as teacher
  paretoprune finetune $out/$ratio/pruned.pt data=$data base=$base epochs=${TUNE:-5} out=$out/$ratio/finetuned.pt
  models="$models $out/$ratio/pruned.pt $out/$ratio/finetuned.pt"
done
# 4. the file that is deployed, then original, pruned, fine-tuned and exported side by side; with an exported file among
# them all are validated on square images, as that file gets them
if [ "${EXPORT:-yes}" = yes ]; then
  paretoprune export $out/$ratio/finetuned.pt data=$data base=$base quantize=8,32 out=$out/exported -f json >$here/export.json
  models="$models $out/exported/finetuned.onnx $out/exported/finetuned_int8.onnx"
fi
paretoprune compare $models data=$data imgsz=128 seconds=2 -f json >$here/compare.json
python $here/notebook.py

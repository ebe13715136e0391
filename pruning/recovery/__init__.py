"""What a pruned network is given back: batch-norm statistics, the fine-tune, and who judges whether it helped."""

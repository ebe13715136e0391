"""Recovery of a pruned network: batch-norm statistics, fine-tuning, and checks that each step helped."""

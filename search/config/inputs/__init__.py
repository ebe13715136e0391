"""What a study points at: a checkpoint, a data set, code of the user's own."""

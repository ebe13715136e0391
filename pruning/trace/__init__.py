"""A model in, its coupled channels out: the exported graph, labels, operator rules, groups."""

"""Several bases in one search: the division of its trials."""

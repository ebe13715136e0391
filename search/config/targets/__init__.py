"""Target packs: what a device asks of a study."""

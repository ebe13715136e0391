"""Modules as surgery sees them: blocks that store widths, blocks that can go whole, templates to fill."""

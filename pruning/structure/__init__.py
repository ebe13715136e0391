"""Module structure for surgery: width attributes of blocks, removable blocks, templates."""

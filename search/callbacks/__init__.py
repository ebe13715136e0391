"""Who follows a search: the callbacks that it calls, and those that are built in."""

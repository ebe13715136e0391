"""How a study is shown: the offline report, the status in a terminal, tables. Everything is drawn from a snapshot."""

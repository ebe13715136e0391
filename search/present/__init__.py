"""How a study is shown: the offline report, the live page, the terminal. Everything is drawn from a snapshot."""

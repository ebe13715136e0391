"""The live page: a small server that sends what `page_data` composes, and takes notes, requests and exports."""

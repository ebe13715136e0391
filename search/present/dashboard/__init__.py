"""The live page: a small server that sends the output of `page_data`, and accepts notes, requests and exports."""

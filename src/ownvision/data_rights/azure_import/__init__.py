"""Leaving Azure: projects of a live Custom Vision resource, copied through its public API.

`client` asks, `answers` says what an answer may be, `work` keeps what was fetched, `crawl` fetches it, `checking`
compares it with what the resource counts, `source` is what a takeout is written from, `copying` does all of it.
"""

"""Takeouts: one archive with everything an account or a project holds, for people, other tools and another OwnVision.

`source` says what one is made from, `writer` makes it, `own` is this installation as a source, `restoring` brings one
back.
"""

"""`make demo`: the whole life of a project on real images, driven through the official SDK over HTTP."""

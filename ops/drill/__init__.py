"""`make drill`: shows on a running stack that routing works. Every signal is really raised, the load really is above what
home can serve, MNS really is away, leaders are really killed; and each step that follows is timed."""

"""The rows of the drill: each takes a stack and tells its story."""

"""Decides where work goes and moves it: policy (pure), recovery, and later overflow."""

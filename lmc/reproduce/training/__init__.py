"""Endpoints for experiments: settings as data, shapes, tasks, the trainer, and the pairs that the repository ships.

What is matched, measured or drawn is no matter here. Begin with `settings` (what is trained), then `trainer`.
"""

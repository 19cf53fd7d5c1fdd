"""Endpoints for experiments: settings as data, shapes, tasks, the trainer, and the pairs that the repository ships.

Matching, measuring and drawing happen elsewhere. Begin with `settings` (what is trained), then `trainer`.
"""

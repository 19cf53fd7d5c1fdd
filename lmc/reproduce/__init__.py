"""What reproduces the paper, apart from the package that people use: no room of `lmc` imports this wing.

`training` makes endpoints, `experiments` compares methods on them, and the files here run the notebooks, keep results
and draw figures from them. Nothing here is needed to align and merge checkpoints of one's own.

Begin with `runs` (what an experiment finds), `results` (the files of numbers) and `command` (`lmc reproduce`). A
chapter is a notebook in `notebooks/`. Every figure is drawn in `figures` or `charts`, which say what colour a line has;
the palette of all is in `lmc/evaluation/plot.py`.
"""

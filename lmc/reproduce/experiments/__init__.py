"""One file for each experiment: what it compares, and how its runs become one table of numbers.

`comparison` is the common one: every method on every pair. The campaign (`python -m lmc.reproduce.experiments ITEM`)
runs the settings of `training` in pieces that resume, also where no notebook stack is installed:

    python -m lmc.reproduce.experiments 3 --size smoke       # in seconds, on a CPU
    python -m lmc.reproduce.experiments 3                    # ≤ 9 minutes; repeat until it says that the item is done

What shows how far the claims reach has a command of its own: `scaling`, `vision`, `evidence` (all pieces that
`where_it_ends` and `after_alignment` make one by one). So have parents of other kinds (`two_vocabularies`,
`with_mergekit`) and what goes beyond the paper (`beyond`). `one_or_two` and `claims` read what the others found.

An experiment neither draws nor knows a chapter. Begin with `comparison`, then `stages`. To add a control (a model that
a merged one has to beat), write it in `controls` and give it a row in `controls_table`. What a run that was cut off
keeps is in `lmc/reproduce/kept_runs.py`.
"""

"""The GPU campaign: pairs at the shapes of real models, trained, matched and measured by commands that resume.

    python -m lmc.campaign 3 --size smoke       # in seconds, on a CPU
    python -m lmc.campaign 3                    # ≤ 9 minutes; repeat until it says that the item is done

What is run is data: `settings` holds one frozen table. `inputs` prepares corpora as small files, `shapes` builds stock
models, `stages` trains, matches and evaluates a setting, `cost` times the learned step. No notebook is needed.
"""

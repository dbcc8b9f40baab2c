"""What differs between runs: shares by category, words, units, and how layers see the images.

    labels = label_together(tops, images, vectors, seed=seed)        # one prior for all runs
    threshold = null_threshold([layer for run in labels for layer in run])
    cuts = [threshold] * len(labels)
    draws = label_draws(names, matrices, images, vectors, cuts)      # or None: no noise floor
    words = words_in(labels, cuts, draws)                            # indices to be sorted …
    sorting = Sorting(concepts, categories, category_of)             # … as the caller sees fit
    runs = [
        compared_run(name, own, threshold, sorting, drawn)
        for name, own, drawn in zip(run_names, labels, draws)
    ]
    comparison = compare(runs, matrices, sorting)

A difference counts as a change if it passes two questions. Would so many units show it by chance?
(:mod:`.shares`: a permutation test, corrected for all that is compared.) Would the same network
show it on other images? (:mod:`.noise`: bootstrap draws of the probe images.)
"""

"""Labelled images: a folder tree or a CSV, and which output of the classifier each label means.

::

    find_labelled(path)                  images, and a label of each as the data writes it
    open_classes(file, outputs)          what the outputs are called: file, weights, ImageNet or
                                         class folders
    match_classes(labels, classes)       label → output, or one error that lists what has none
    open_labelled(path, classes)         all of it: a probe set with a true class an image
    suspicious(truth, predicted)         whether the two seem to be numbered differently
    reordered(truth, predicted, outputs) … whether an order that was assumed seems to be wrong

A label that could mean two outputs is an error, never a guess: a wrong match would come back as a
fault of the network under study.
"""

"""The questions put to a language model, and the checking of its answers.

A model is asked, never trusted: an answer counts only as far as it passes the check here. The
modules, each importing only those above it::

    prompts      the prompt files, their names and digest
    categories   the categories words are sorted into
    answers      reading and checking what a model wrote
    sorting      words into categories, by a model
    exemplar     words into categories, without a model
    facts        typed facts a narrative may use; the facts of a profile
    comparison_facts   those of a comparison; imported by itself, for statistics take a second
    proposing    attributes that tell classes apart, by a model
    narrate      facts into a paragraph, checked against them
"""

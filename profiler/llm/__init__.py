"""Language models: asked, never trusted.

::

    base.py                Request, Reply, Usage and the LLM protocol
    prices.py              what OpenAI charges, as far as it is known
    cache.py               replies on disk, found again by everything that decides them
    replies.py             what servers send back, in its many forms
    scripted.py            replies from a file, and the recording of such a file
    openai_compatible.py   any server that speaks OpenAI's chat completions
    choose.py              from the text of ``--llm`` to an LLM
    prompts.py             the prompt files, their names and digest
    answers.py             reading and checking what a model wrote
    facts.py               typed facts that a narrative may use
    checks.py              the check that a text says nothing but the facts
    narrate.py             facts into a paragraph, checked against them
"""

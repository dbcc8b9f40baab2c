"""Language models: one protocol, an OpenAI-compatible client, and a scripted stand-in.

The modules, each importing only those above it::

    base                 Request, Reply, Usage and the LLM protocol
    prices               what OpenAI charges, as far as it is known
    cache                replies on disk, found again by everything that decides them
    answers              what servers send back, in its many forms
    scripted             replies from a file, and the recording of such a file
    openai_compatible    any server that speaks OpenAI's chat completions
    choose               from the text of ``--llm`` to an LLM
"""

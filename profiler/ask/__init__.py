"""Story: questions answered from finished results, in numbers that can be checked.

::

    facts.py         a fact: an id, what it is, how it is stated, what it is about, its address
    results.py       finished results opened by folder, and the names in them
    profiles.py      facts of a profile
    comparisons.py   facts of a comparison
    verdicts.py      facts of a diagnosis, a guard evaluation and a check
    tools.py         the functions that a language model or an assistant may call
    answers.py       sentences with places for facts, checked and filled in
    agent.py         the bounded loop between a language model and the tools
    matching.py      questions matched to tools by their words, without a language model
    records.py       an answer as a file, and its verification
    mcp_server.py    the same tools over the Model Context Protocol

A language model never writes a number: it writes the id of a fact, and code puts the fact there.
"""

"""The rating page: one page on this machine's loopback address, for the people who look.

::

    session.py   which question comes next, and what an answer does: no network
    guard.py     who may ask: this machine, this page, nobody else
    server.py    routes, and the process that serves them
    page.html, page.css, page.js   the page; it shares the reports' stylesheet
"""

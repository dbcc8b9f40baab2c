"""What do people say about the labels? Ratings, and the threshold that follows.

::

    ratings.py       people's ratings: reading, sampling, agreement
    views.py         what can be rated: the peak of units, or their whole range
    book.py          the ratings of a run on disk
    server/          the rating page, on the loopback address only
    calibration.py   a threshold from ratings, with its interval
    calibrate.py     the stories: rate, calibrate
    page.py          the calibration as a page
"""

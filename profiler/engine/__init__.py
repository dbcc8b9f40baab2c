"""Where an image pass is made: on a Ray cluster, or as one of an array of jobs.

::

    worker.py    one shard, in a process of a cluster: opened from names, made, handed back
    cluster.py   the driver of a Ray cluster: which shards are under way, lost, stalled
    share.py     every n-th shard of a pass, and the whole once all are there
"""

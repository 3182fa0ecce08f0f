"""The template process: imports the app once, judges whether it may be forked, forks.

Theory of operation
-------------------

The master forks a template for each generation. The template imports the app, loads
uvicorn's configuration and audits itself (:mod:`.audit`). If the app holds nothing
that a fork would break, the template takes its memory out of the garbage collector's
hands (:mod:`.sharing`), says ready, and from then on only waits: for a message to
fork a worker, or for the end of its master::

    master ──Spawn + 2 descriptors──► template ──fork──► go-between ──fork──► worker
       ▲                                                 (exits)               │
       └──────────────────────────Hello, Ready, ...────────────────────────────┘

The go-between exits at once, so the kernel gives the worker to the nearest subreaper,
which is the master (:mod:`.twofold`). The worker is then a child of the master like
one that the master has forked itself, and outlives its template.
"""

"""Hooks: the user's functions, called where they cannot hurt.

Theory of operation
-------------------

The master never runs the user's code: it may hang, raise, start threads, or import half the
world. So a hook runs in one of three places:

================================================  ============================================
``on_starting``, ``when_ready``, ``on_reload``,   a *hook runner*: a child of the master that
``child_exit``, ``on_exit``                       calls one hook and exits
``pre_fork``                                      the template, before each fork; without a
                                                  template the newborn worker
``post_fork``, ``worker_ready``, ``worker_exit``  the worker
================================================  ============================================

One rule says what becomes of a hook that raises. If it belongs to a start, the start has
failed: ``on_starting`` that of the service, ``pre_fork``, ``post_fork`` and ``worker_ready``
that of their worker, like an app that cannot be imported; so a reload is rolled back. Any
other is logged, and harms nobody. Each has a deadline, after which its process is killed.

A file is executed once in a process, and anew in each new one. A worker that a template
has forked has it from there.

Where to read: :mod:`.calling` (a file is executed, a function is called), :mod:`.views` (what it
is given), :mod:`.of_a_worker` (a worker's four), :mod:`.runner` (the process apart); and
:mod:`forkserve.master.hooks` (the master's side of that).
"""

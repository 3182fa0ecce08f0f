"""The log: what is said, how it looks, and where it goes. The same in every process.

There are two logs. The **error log** holds what the master says and what uvicorn
complains about; the **access log** holds one line a request. Each has outputs:

- an :class:`~forkserve.logs.outlet.Outlet`, which writes whole lines to a descriptor
  and never waits for it: what a full pipe or a full disk does not take is counted;
- with ``--log-syslog``, a :class:`~forkserve.logs.syslog.Syslog`, which does not wait
  either.

Only the master opens files (:mod:`forkserve.logs.files`): a worker may not be allowed
to. Whoever is forked inherits the descriptors, under their numbers. When the master is
told to open them anew (SIGUSR1), it passes the new ones on, and each process puts them
in place of the old, under the old numbers; so nobody who writes has to know of it.
"""

# Behind a proxy on the same machine; the address in the log is a header of the proxy's.
bind = "unix:/var/run/index/index.sock"
backlog = 2048
preload_app = True
max_requests = 2048
max_requests_jitter = 128

worker_connections = 1000
timeout = 60
keepalive = 2

errorlog = "-"
loglevel = "info"
accesslog = "-"
access_log_format = '%({Index-Hashed-IP}i)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'

statsd_host = "localhost:8125"

control_socket_disable = True

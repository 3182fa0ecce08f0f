# What versions 24 to 27 have brought.
worker_class = "asgi"
asgi_loop = "uvloop"
asgi_lifespan = "on"
asgi_disconnect_grace_period = 10
websocket_max_message_size = 0
http_parser = "python"
root_path = "/api"
http_protocols = "h1,h2"
http2_cleartext = "prior-knowledge"
http2_max_concurrent_streams = 100
proxy_protocol = "v2"
protocol = "uwsgi"
dirty_apps = ["models.app:Ranker:2"]
dirty_workers = 2
control_socket = "/run/gunicorn.ctl"
header_map = "drop"

# A virtual machine of years ago: daemon, people, files, TLS without a proxy.
import ssl

command = "/opt/venv/bin/gunicorn"
pythonpath = "/opt/shop"
bind = "0.0.0.0:443, 127.0.0.1"
workers = "0x3"
wsgi_app = "shop.asgi:make_app()"
chdir = "/opt/shop"
daemon = True
user = "www-data"
group = 33
umask = 0o007
initgroups = True
pidfile = "/run/shop.pid"
proc_name = "shop"
raw_env = "DJANGO_SETTINGS_MODULE=shop.settings,prod"
errorlog = "/var/log/shop/error.log"
accesslog = "/var/log/shop/access.log"
loglevel = "WARNING"
syslog = True
syslog_addr = "unix:///dev/log#dgram"
syslog_prefix = "shop"
syslog_facility = "local0"
worker_class = "uvicorn.workers.UvicornWorker"
limit_request_line = 4094
limit_request_field_size = 0
secure_scheme_headers = {"X-FORWARDED-PROTO": "https"}
reuse_port = True
sendfile = False
reload = False

keyfile = "/etc/ssl/shop.key"
certfile = "/etc/ssl/shop.crt"
ca_certs = "/etc/ssl/clients.pem"
cert_reqs = ssl.CERT_REQUIRED
ssl_version = ssl.PROTOCOL_TLS_SERVER
ciphers = "TLSv1.2"


def ssl_context(conf, default_ssl_context_factory):
    context = default_ssl_context_factory()
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context

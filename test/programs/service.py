# A web service that knows nothing of Vault: it lets in who has the password in the file PASSWORD_FILE,
# reads that again on SIGHUP, and ends on SIGTERM. GET / answers what it runs as.
import http.server, json, os, signal, sys

password = None


def read_password(*_):
    global password
    with open(os.environ["PASSWORD_FILE"]) as file:
        password = file.read()
    print(f"password of {len(password)} characters", flush=True)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        allowed = self.headers["Authorization"] == f"Bearer {password}"
        self.send_response(200 if allowed else 401)
        self.end_headers()
        processes = [name for name in os.listdir("/proc") if name.isdigit()]
        facts = {"pid": os.getpid(), "processes": len(processes), "variables": list(os.environ)}
        self.wfile.write(json.dumps(facts if allowed else {}).encode())

    def log_message(self, *_):
        pass


def end(*_):
    print("ended by SIGTERM", flush=True)
    sys.exit(0)


signal.signal(signal.SIGHUP, read_password)
signal.signal(signal.SIGTERM, end)
read_password()
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print(f"port {server.server_port}.", flush=True)
server.serve_forever()

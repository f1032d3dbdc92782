# HTTPS for callers who have a certificate: each request is an entry in PostgreSQL. The files of
# secrets are read each time, for they change while this runs.
import http.server, json, os, ssl
import psycopg2

CALLERS = ["timeline.production.example.io"]


def trust():
    tls = os.environ["TLS_DIR"]
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=f"{tls}/issuing_ca")
    made.load_cert_chain(f"{tls}/certificate", f"{tls}/private_key")
    made.verify_mode = ssl.CERT_REQUIRED
    return made


def enter(caller):
    with open(os.environ["PASSWORD_FILE"]) as file:
        password = file.read()
    database = psycopg2.connect(host="postgres", user="ledger", password=password)
    try:
        with database, database.cursor() as cursor:
            cursor.execute("CREATE TABLE IF NOT EXISTS entries (id serial, caller text)")
            cursor.execute("INSERT INTO entries (caller) VALUES (%s) RETURNING id", [caller])
            return cursor.fetchone()[0]
    finally:
        database.close()


class Ledger(http.server.BaseHTTPRequestHandler):
    def setup(self):
        self.request.settimeout(10)
        self.request = trust().wrap_socket(self.request, server_side=True)
        super().setup()

    def do_GET(self):
        certificate = self.connection.getpeercert()
        [(_, caller)] = certificate["subjectAltName"]
        status, answer = 403, {}
        if caller in CALLERS:
            status, answer = 200, {"entry": enter(caller), "of": certificate["serialNumber"]}
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


http.server.ThreadingHTTPServer(("", 8443), Ledger).serve_forever()

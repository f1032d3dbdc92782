# A Python service that asks for its token itself: ENTRYPOINT ["python3", "/app/python.py"]
import json, socket, ssl, urllib.request

with socket.socket(socket.AF_UNIX) as server:
    server.connect("/run/authproxy/authproxy.sock")  # and send nothing: who speaks gets nothing
    grant = json.loads(server.makefile().readline() or '{"error": "unavailable"}')
if "error" in grant:
    raise SystemExit("authproxy: " + grant["error"])  # "unavailable": may be asked again

vault = grant["vault"]
request = urllib.request.Request(
    vault["address"] + "/v1/secret/data/app", headers={"X-Vault-Token": grant["token"]}
)
trust = ssl.create_default_context(cadata=vault.get("ca"))
with urllib.request.urlopen(request, context=trust) as answer:
    password = json.load(answer)["data"]["data"]["password"]
print("started with a password of", len(password), "characters")

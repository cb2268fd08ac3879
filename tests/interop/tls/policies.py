"""sslyze over every security policy, against the golden files; testssl.sh over the default one."""

import http.server
import json
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import programs
import proxies

#: What ALB's table says of each policy; a file's name is the policy's.
GOLDEN = sorted(Path(__file__).parent.glob("ELBSecurityPolicy-*.txt"))

DEFAULT = "ELBSecurityPolicy-TLS13-1-2-Res-2021-06"

VERSIONS = ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1", "tls_1_2", "tls_1_3")

#: What sslyze is asked for, but for the groups.
COMMANDS = "sslv2 sslv3 tlsv1 tlsv1_1 tlsv1_2 tlsv1_3 heartbleed openssl_ccs robot compression reneg early_data fallback".split()

#: Groups of every policy whose name has no PQ.
GROUPS = {"X25519", "secp256r1", "secp384r1"}

#: What testssl.sh complains of and no server can mend, with the beginning of its words.
OF_ITS_OWN = {
    # Debian's OpenSSL comes without GOST.
    "engine_problem": "No engine or GOST support",
    # It ends its first connection without reading, often before the ticket of TLS 1.3 has come; nginx gets the same.
    "sessionresumption_ticket": "check failed because of connect problem",
}

#: Longest that sslyze may take over all policies, and testssl.sh over one, in seconds.
SSLYZE_LIMIT, TESTSSL_LIMIT = 300, 1200

#: The name that the certificates are for.
NAME = "web.example"


class Target(http.server.BaseHTTPRequestHandler):
    """Says what a careful site says. An ALB adds none of it by itself, so a finding would be the site's."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Strict-Transport-Security", "max-age=63072000; includeSubDomains")
        self.send_header("X-Frame-Options", "DENY")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Content-Security-Policy", "default-src 'none'")
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"web")

    do_HEAD = do_GET

    def version_string(self):
        return "web"

    def log_message(self, *_):
        pass


def play(checks, started, python, binary, quick=""):
    target = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Target)
    threading.Thread(target=target.serve_forever, daemon=True).start()
    policies = [file.stem for file in GOLDEN]
    ports = dict(zip(policies, free := programs.free_ports(2 * len(policies))))
    # OpenSSL's clients take no ECDSA certificate on a curve that they did not offer, and sslyze offers one at a time.
    rsa_ports = dict(zip(policies, free[len(policies):]))
    certificates(started.folder)
    front = proxies.proxy(binary, started)
    print(f"     {front.version()}")
    front.admin = f"unix:{started.folder}/admin.sock"
    doors = [(ports, ("ecdsa", "rsa")), (rsa_ports, ("rsa",))]
    listeners = tuple(proxies.Listener(port, "web", tls="web.pem") for port in free)
    text = configuration(front.admin, doors, target.server_address[1])
    front.start(proxies.Table(listeners, (), extra={"file": text, "admin": front.admin}))

    program = Path(python).with_name("sslyze")
    found = sslyze(started, program, ports, *COMMANDS)
    groups = sslyze(started, program, rsa_ports, "elliptic_curves")
    for file in GOLDEN:
        compare(checks, file, found[file.stem])
        agreed = {each["name"] for each in groups[file.stem]["elliptic_curves"]["result"]["supported_curves"] or []}
        checks.check(f"{file.stem} agrees on its groups alone", agreed == GROUPS, " ".join(sorted(agreed)))
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        resumed = [resumes(started.folder / "ca.pem", ports[DEFAULT], version) for _ in range(3)]
        checks.check(f"OpenSSL's client resumes its session, {version.name}", all(resumed))
    if not quick:
        judge(checks, testssl(started, ports[DEFAULT]))
    target.shutdown()


def configuration(admin, doors, target):
    """`doors` are pairs of {policy: port} and the kinds of certificate shown there."""
    lines = [f"admin: {admin}", "listeners:"]
    for ports, kinds in doors:
        pairs = ", ".join(f"{{ certificate: {kind}.pem, key: {kind}.key }}" for kind in kinds)
        for policy, port in ports.items():
            lines += [f"  - port: {port}", "    address: 127.0.0.1", "    protocol: HTTPS", f"    ssl_policy: {policy}"]
            lines += [f"    certificates: [ {pairs} ]", "    default_actions: [ { forward: web } ]"]
    lines += ["target_groups:", "  - { name: web, port: 80, targets: [ \"127.0.0.1:%d\" ] }" % target]
    return "\n".join(lines) + "\n"


def certificates(folder):
    """An authority in ca.pem, and a certificate for each kind of key, as a public one would be."""

    def openssl(*words):
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, stdin=subprocess.DEVNULL, cwd=folder)

    extensions = f"subjectAltName=DNS:{NAME}\nextendedKeyUsage=serverAuth\nkeyUsage=digitalSignature\nbasicConstraints=CA:FALSE\n"
    # Nobody asks there; without it a client could not find out that the certificate was revoked. A list, as Let's
    # Encrypt has it: with an address for OCSP testssl.sh wants stapling, which an ALB does not offer either.
    extensions += "crlDistributionPoints=URI:http://127.0.0.1:9/\n"
    (folder / "extensions").write_text(extensions)
    openssl(*"req -x509 -newkey rsa:3072 -nodes -days 365 -subj /CN=albedo-interop -keyout ca.key -out ca.pem".split())
    for kind, algorithm in (("ecdsa", "ec -pkeyopt ec_paramgen_curve:P-256"), ("rsa", "rsa:2048")):
        openssl(*f"req -newkey {algorithm} -nodes -subj /CN={NAME} -keyout {kind}.key -out {kind}.csr".split())
        sign = f"x509 -req -sha256 -in {kind}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 90 -extfile extensions"
        openssl(*sign.split(), "-out", f"{kind}.pem")


def sslyze(started, program, ports, *commands):
    """{policy: what was found}"""
    out = started.folder / f"sslyze{len(commands)}.json"
    places = [f"{NAME}:{port}{{127.0.0.1}}" for port in ports.values()]
    words = [program, "--quiet", *(f"--{each}" for each in commands), f"--json_out={out}", *places]
    subprocess.run([str(word) for word in words], timeout=SSLYZE_LIMIT, capture_output=True, stdin=subprocess.DEVNULL)
    results = json.loads(out.read_text())["server_scan_results"]
    by_port = {result["server_location"]["port"]: result["scan_result"] for result in results}
    return {policy: by_port[port] for policy, port in ports.items()}


def compare(checks, file, found):
    accepted = lambda version: found[f"{version}_cipher_suites"]["result"]["accepted_cipher_suites"]
    names = lambda version: sorted(each["cipher_suite"]["name"] for each in accepted(version))
    lines = [" ".join([version, *names(version)]) for version in VERSIONS]
    golden = file.read_text().splitlines()
    for got, wanted in zip(lines, golden):
        if got != wanted:
            print(f"     found:  {got}\n     golden: {wanted}")
    checks.check(f"{file.stem} lets in what ALB's does", lines == golden)
    holes = dict(holes_of(found))
    open_ones = [name for name, is_open in holes.items() if is_open]
    checks.check(f"{file.stem} has none of {len(holes)} known holes", len(holes) == 7 and not open_ones, " ".join(open_ones))


def holes_of(found):
    """Every known hole that sslyze looked for, and whether it is there."""
    of = lambda command: found[command]["result"]
    versions = [version for version in VERSIONS if of(f"{version}_cipher_suites")["accepted_cipher_suites"]]
    yield "heartbleed", of("heartbleed")["is_vulnerable_to_heartbleed"]
    yield "ccs", of("openssl_ccs_injection")["is_vulnerable_to_ccs_injection"]
    yield "robot", not of("robot")["robot_result"].startswith("NOT_VULNERABLE")
    yield "compression", of("tls_compression")["supports_compression"]
    yield "renegotiation", of("session_renegotiation")["is_vulnerable_to_client_renegotiation_dos"]
    # Without it a client that tries an older version again could be talked into that one.
    yield "fallback", len(versions) > 1 and not of("tls_fallback_scsv")["supports_fallback_scsv"]
    yield "early data", "tls_1_3" in versions and of("tls_1_3_early_data")["supports_early_data"]


def resumes(authority, port, version):
    """Whether a session of OpenSSL's goes on in a second connection."""
    context = ssl.create_default_context(cafile=authority)
    context.minimum_version = context.maximum_version = version
    session = None
    for _ in range(2):
        tcp = socket.create_connection(("127.0.0.1", port), timeout=10)
        with context.wrap_socket(tcp, server_hostname=NAME, session=session) as tls:
            tls.sendall(b"GET / HTTP/1.1\r\nHost: web.example\r\nConnection: close\r\n\r\n")
            while tls.recv(4096):
                pass
            session, reused = tls.session, tls.session_reused
    return reused


def testssl(started, port):
    """[{id, severity, finding}]"""
    out = started.folder / "testssl.json"
    words = ["testssl", "--quiet", "--color", 0, "--warnings", "batch", "--ip", "127.0.0.1", "--nodns", "none"]
    words += ["--add-ca", started.folder / "ca.pem", "--jsonfile", out, f"https://{NAME}:{port}/"]
    with open(started.log_file("testssl"), "wb") as log:
        subprocess.run([str(word) for word in words], timeout=TESTSSL_LIMIT, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    return json.loads(out.read_text())


def judge(checks, findings):
    of_its_own = lambda each: OF_ITS_OWN.get(each["id"], "") in each["finding"] and each["id"] in OF_ITS_OWN
    worse = [each for each in findings if each["severity"] not in ("OK", "INFO") and not of_its_own(each)]
    for each in worse:
        print(f"     {each['severity']} {each['id']}: {each['finding']}")
    told = f"{len(findings)} findings, {len(worse)} worse"
    checks.check("testssl.sh finds nothing worse than \"info\"", len(findings) > 100 and not worse, told)


if __name__ == "__main__":
    programs.run(play, *sys.argv[1:])

"""Runs the tests of Python's requests against httpbin, directly and through the proxy, and compares them one by one."""

import sys
import xml.etree.ElementTree as ElementTree

import programs
import proxies

#: Longest that one run may take, in seconds.
LIMIT = 600

FILES = ["tests/test_requests.py", "tests/test_lowlevel.py"]

#: They reach for other hosts, some of which do not exist.
ELSEWHERE = "not connect and not test_errors and not proxy_error"

#: Has the tests speak to the proxy where they would to httpbin; the servers of their own under TLS stay.
PLUGIN = """import os
from pytest_httpbin import serve

url = os.environ.get("PROXY_URL")
if url:
    own = lambda self: f"{self.protocol}://{self.host}:{self.port}"
    serve.Server.url = property(lambda self: url if self.port_envvar == "HTTPBIN_HTTP_PORT" else own(self))
    serve.SecureServer.protocol = "https"
"""


def play(checks, started, python, source, name):
    httpbin, port = programs.free_ports(2)
    front = proxies.proxy(name, started)
    print(f"     {front.version()}")
    (started.folder / "through_the_proxy.py").write_text(PLUGIN)
    group = proxies.Group("httpbin", (("127.0.0.1", httpbin),))
    extra = {"load_balancer": {"preserve_host_header": "true"}}
    front.start(proxies.Table((proxies.Listener(port, "httpbin"),), (group,), extra=extra))
    directly = results(started, python, source, httpbin, "directly", {})
    through = results(started, python, source, httpbin, "through", {"PROXY_URL": f"http://127.0.0.1:{port}"})
    passing = {test for test, outcome in directly.items() if outcome == "passed"}
    checks.check("the tests pass directly", len(passing) > 300, f"{len(passing)} of {len(directly)}")
    lost = sorted(test for test in passing if through.get(test) != "passed")
    for test in lost[:20]:
        print(f"     {test}: {through.get(test)} through {front.name}")
    detail = f"{len(passing) - len(lost)} of {len(passing)}"
    checks.check("what passes directly passes through the proxy", passing and not lost, detail)


def results(started, python, source, httpbin, way, environment):
    """{test: outcome}"""
    report = started.folder / f"{way}.xml"
    command = ["env", "-C", source, "nice", python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore"]
    command += ["-p", "through_the_proxy", "-k", ELSEWHERE, f"--junitxml={report}", *FILES]
    environment = {"HTTPBIN_HTTP_PORT": str(httpbin), "PYTHONPATH": str(started.folder), **environment}
    started.start(command, name=way, environment=environment).wait(LIMIT)
    if not report.exists():
        raise RuntimeError(f"{way}: {started.log(way)}")
    cases = ElementTree.parse(report).iter("testcase")
    return {f"{case.get('classname')}.{case.get('name')}": outcome(case) for case in cases}


def outcome(case):
    kinds = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
    return kinds[0] if kinds else "passed"


if __name__ == "__main__":
    programs.run(play, *sys.argv[1:])

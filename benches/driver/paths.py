# SPDX-License-Identifier: Apache-2.0
"""The ways from the load to the provider: none between, Remora, other proxies; one hop and two."""

from harness.procs import Failed, wait_for

from .peers import PEERS, Missing
from .remora import Site

CONSUMER_HOST, FAR_HOST, BARE_HOST = "127.0.0.21", "127.0.0.22", "127.0.0.23"
TITLES = {"haproxy": "HAProxy, TCP", "nginx": "nginx stream", "envoy": "Envoy, tcp_proxy", "envoy-dubbo": "Envoy, dubbo_proxy",
          "mosn": "MOSN"}
# Peers with one protocol only: what understands no other, and layer-4 relays, to which all protocols are bytes.
SPEAKS = {"envoy-dubbo": "dubbo", "nginx": "dubbo", "envoy": "dubbo"}


class Path:
    """Something to call, and the processes whose cost it is; `owner` is what to stop when it is not needed any more."""

    def __init__(self, key, title, hops, protocol, target, proxies=(), owner=None):
        self.key, self.title, self.hops, self.protocol, self.target, self.owner = key, title, hops, protocol, target, owner
        self._proxies = list(proxies)

    @property
    def pids(self):
        return [pid for proxy in self._proxies for pid in proxy.pids]

    def answers(self, run):
        """Makes a few calls; raises when they do not come back well."""
        def is_well():
            result = run.load("calls", self.target, self.protocol, connections=2, warmup=0, seconds=0.1, timeout=20)
            self.last = result
            return result["error_count"] == 0 and result["calls"] > 0
        try:
            wait_for("a call is answered", 15, is_well, 0.3)
        except Failed as error:
            raise Failed(f"{self.title}: {error}; {getattr(self, 'last', {}).get('errors')}") from None


def remora_paths(run, echo, protocol):
    """One hop on either side, and both."""
    near = Site(run, f"bare-{protocol}", protocol)
    consumer = near.remora("consumer", BARE_HOST)
    near.provide_bare(echo.host, echo.port)
    near.follow_at(consumer)

    whole = Site(run, f"both-{protocol}", protocol)
    first, second = whole.remora("consumer", CONSUMER_HOST), whole.remora("provider", FAR_HOST)
    whole.provide_at(second, echo.host, echo.port)
    whole.follow_at(first)
    return [
        Path("remora-1", "Remora, egress", 1, protocol, ("127.0.0.1", consumer.egress), [consumer], near),
        Path("remora-in", "Remora, ingress", 1, protocol, (FAR_HOST, second.ingress), [second], whole),
        Path("remora-2", "Remora, egress and ingress", 2, protocol, ("127.0.0.1", first.egress), [first, second], whole),
    ]


def peer_paths(run, echo, protocol, name):
    one = PEERS[name](run, f"{name}-1", echo.address, protocol)
    two = PEERS[name](run, f"{name}-2", ("127.0.0.1", one.port), protocol)
    title = TITLES[name]
    return [Path(f"{name}-1", title, 1, protocol, ("127.0.0.1", one.port), [one], one),
            Path(f"{name}-2", f"{title}, twice", 2, protocol, ("127.0.0.1", two.port), [one, two], two)]


def of_protocol(names, protocol):
    """Those that are measured with it."""
    return [name for name in names if SPEAKS.get(name, protocol) == protocol]


def versions(names):
    """{title: version} of the peers that there are."""
    found = {}
    for name in names:
        if name in PEERS and name != "envoy-dubbo":
            try:
                found[TITLES[name].split(",")[0]] = PEERS[name].version()
            except Missing:
                continue
    return found


def build(run, echo, protocol, wanted, skipped):
    """Every wanted path that can be had; why not goes into `skipped`."""
    paths = [Path("direct", "no proxy", 0, protocol, echo.address)]
    for name in of_protocol(wanted, protocol):
        try:
            made = remora_paths(run, echo, protocol) if name == "remora" else peer_paths(run, echo, protocol, name)
            for path in made:
                path.answers(run)
            paths += made
        except (Missing, Failed) as error:
            if name == "remora":
                raise
            skipped[f"{TITLES[name]} ({protocol})"] = str(error)
            print(f"  {TITLES[name]}: left out, {error}", flush=True)
    return paths


def stop(run, paths):
    """Ends what the paths consist of."""
    for owner in {id(path.owner): path.owner for path in paths if path.owner}.values():
        owner.stop() if isinstance(owner, Site) else run.stop(owner.proc)

// SPDX-License-Identifier: Apache-2.0
package demo.app;

import demo.CallbackService;
import demo.DemoException;
import demo.EchoListener;
import demo.EchoService;
import demo.Order;
import java.rmi.server.UID;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.TimeUnit;

/** The kinds of call, each a phase which prints one JSON line: calls, failed, the first errors, elapsed time. */
final class Suite {
    private static final String[] GENERIC_TYPES = {"java.lang.String"};

    private final Line line;
    private final Options options;
    // One listener for all: a provider takes one of a kind from each consumer by default.
    private final Set<String> heard = java.util.concurrent.ConcurrentHashMap.newKeySet();
    private final EchoListener listener = heard::add;
    private int watches;
    private final String run = new UID().toString();
    private boolean clean = true;
    private int total;
    private int totalFailed;

    Suite(Line line, Options options) {
        this.line = line;
        this.options = options;
    }

    /** One call, by its number; throws when the answer is not the expected one. */
    private interface Call {
        void make(int number) throws Exception;
    }

    boolean run(String[] mix) throws Exception {
        int calls = options.number("calls", 100);
        for (String kind : mix) phase(kind, Math.max(1, calls * share(kind) / 100));
        Map<String, Object> end = new LinkedHashMap<>();
        end.put("event", "end");
        end.put("calls", total);
        end.put("failed", totalFailed);
        Out.print(end);
        return clean;
    }

    /** Each frame kind once, in this order: the capture script knows it. */
    boolean golden() throws Exception {
        String[] kinds = {"echo", "variants", "order", "checked", "unchecked", "nothing", "generic", "oneway", "later", "callback", "missing", "exhausted"};
        for (String kind : kinds) {
            phase(kind, 1);
            Thread.sleep(200);
        }
        Map<String, Object> end = new LinkedHashMap<>();
        end.put("event", "end");
        Out.print(end);
        // Heartbeats and the provider's farewell come while we stay.
        Thread.sleep(options.number("linger", 10) * 1000L);
        return clean;
    }

    /** Calls of a kind in a hundred. */
    private int share(String kind) {
        switch (kind) {
            case "echo": return 38;
            case "order": return 10;
            case "variants": return 10;
            case "later": return 8;
            case "outoforder": return 7;
            case "generic":
            case "oneway":
            case "checked":
            case "unchecked":
            case "wildcard": return 5;
            case "blob": return 1;
            case "nothing":
            case "peer":
            case "callback": return 2;
            default:
                int own = line.share(kind);
                if (own == 0) throw new IllegalArgumentException("no kind of call named " + kind);
                return own;
        }
    }

    private void phase(String kind, int calls) throws Exception {
        Map<String, Object> extra = new LinkedHashMap<>();
        EchoService echo = line.get("plain");
        switch (kind) {
            case "echo":
                each(kind, calls, extra, n -> expect("text-" + n, echo.echo("text-" + n)));
                break;
            case "order":
                each(kind, calls, extra, n -> {
                    Order sent = Order.sample(n);
                    expect(null, sent.difference(echo.order(sent)));
                });
                break;
            case "checked":
                each(kind, calls, extra, n -> {
                    try {
                        echo.checked("checked-" + n);
                    } catch (DemoException e) {
                        expect("checked-" + n + "/42", e.getMessage() + "/" + e.getCode());
                        return;
                    }
                    throw new AssertionError("no exception came back");
                });
                break;
            case "unchecked":
                each(kind, calls, extra, n -> {
                    try {
                        echo.unchecked("unchecked-" + n);
                    } catch (IllegalStateException e) {
                        expect("unchecked-" + n, e.getMessage());
                        return;
                    }
                    throw new AssertionError("no exception came back");
                });
                break;
            case "oneway":
                oneway(calls, echo);
                break;
            case "nothing":
                each(kind, calls, extra, n -> expect(null, echo.nothing()));
                break;
            case "blob":
                byte[] bytes = new byte[1 << 20];
                new Random(7).nextBytes(bytes);
                each(kind, calls, extra, n -> {
                    if (!Arrays.equals(bytes, echo.blob(bytes))) throw new AssertionError("other bytes came back");
                });
                break;
            case "generic":
                each(kind, calls, extra, n -> expect("generic-" + n, line.invoke("generic", "echo", GENERIC_TYPES, new Object[] {"generic-" + n})));
                break;
            case "later":
                each(kind, calls, extra, n -> expect("later-" + n, line.later("later", "later-" + n, 1).get(5, TimeUnit.SECONDS)));
                break;
            case "outoforder":
                outOfOrder(calls);
                break;
            case "peer":
                Set<String> peers = new LinkedHashSet<>();
                each(kind, calls, extra, n -> {
                    String peer = echo.peer();
                    if (peer == null) throw new AssertionError("no peer");
                    peers.add(peer);
                    extra.put("peers", peers);
                });
                break;
            case "variants":
                EchoService g1 = line.get("g1");
                EchoService v2 = line.get("v2");
                String[] tails = {"/null/null", "/g1/1.0.0", "/null/2.0.0"};
                each(kind, calls * 3, extra, n -> {
                    String who = (n % 3 == 0 ? echo : n % 3 == 1 ? g1 : v2).who();
                    if (!who.endsWith(tails[n % 3])) throw new AssertionError("asked for " + tails[n % 3] + ", was answered by " + who);
                });
                break;
            case "wildcard":
                EchoService any = line.get("wildcard");
                Set<String> answered = new LinkedHashSet<>();
                each(kind, calls, extra, n -> {
                    answered.add(any.who());
                    extra.put("answered", answered);
                });
                break;
            case "callback":
                callbacks(calls);
                break;
            case "missing":
                EchoService missing = line.get("missing");
                each(kind, calls, extra, n -> missing.echo("missing"));
                break;
            case "exhausted":
                exhausted(echo);
                break;
            default:
                each(kind, calls, extra, n -> line.call(kind, n));
        }
    }

    /** More calls at once than the provider has threads ({@code --threads 4}): some are refused. */
    private void exhausted(EchoService echo) throws Exception {
        List<Thread> threads = new ArrayList<>();
        for (int i = 0; i < 8; i++) {
            threads.add(new Thread(() -> {
                try {
                    echo.slow("exhausted", 500);
                } catch (RuntimeException expected) {
                    // Seen in the capture.
                }
            }));
        }
        for (Thread thread : threads) thread.start();
        for (Thread thread : threads) thread.join();
    }

    private void oneway(int calls, EchoService echo) throws Exception {
        each("oneway", calls, new LinkedHashMap<>(), n -> echo.fire(run));
        long until = System.currentTimeMillis() + 3000;
        int arrived = 0;
        while (System.currentTimeMillis() < until && (arrived = echo.fired(run)) < calls) Thread.sleep(20);
        int seen = arrived;
        each("oneway_arrived", 1, new LinkedHashMap<>(), n -> expect(calls, seen));
    }

    /** Sixty-four calls at once on one connection; the first asked is the last answered. */
    private void outOfOrder(int calls) throws Exception {
        int rounds = Math.max(1, calls / 64);
        each("outoforder", rounds * 64, new LinkedHashMap<>(), new Call() {
            private List<CompletableFuture<String>> open = new ArrayList<>();

            @Override
            public void make(int n) throws Exception {
                int slot = n % 64;
                if (slot == 0) {
                    open = new ArrayList<>();
                    for (int i = 0; i < 64; i++) open.add(line.later("later", "slot-" + i, (64 - i) * 4));
                }
                expect("slot-" + slot, open.get(slot).get(5, TimeUnit.SECONDS));
            }
        });
    }

    private void callbacks(int calls) throws Exception {
        CallbackService service = line.get("callback");
        each("callback", calls, new LinkedHashMap<>(), n -> {
            String key = "key" + watches++;
            expect(key, service.watch(key, 2, listener));
            long until = System.currentTimeMillis() + 3000;
            while (!(heard.contains(key + "-0") && heard.contains(key + "-1"))) {
                if (System.currentTimeMillis() > until) throw new AssertionError("listener heard " + heard + ", wanted " + key);
                Thread.sleep(2);
            }
        });
    }

    private void each(String kind, int calls, Map<String, Object> extra, Call call) {
        ConcurrentLinkedQueue<String> errors = new ConcurrentLinkedQueue<>();
        int failed = 0;
        long begin = System.nanoTime();
        for (int n = 0; n < calls; n++) {
            try {
                call.make(n);
            } catch (Throwable t) {
                failed++;
                if (errors.size() < 3) errors.add(Out.brief(t));
                // A service that is gone costs its timeout per call: enough has been seen.
                if (failed == 20) {
                    calls = n + 1;
                }
            }
        }
        Map<String, Object> out = new LinkedHashMap<>();
        out.put("event", "phase");
        out.put("phase", kind);
        out.put("calls", calls);
        out.put("failed", failed);
        out.put("errors", new ArrayList<>(errors));
        out.put("elapsed_ms", (System.nanoTime() - begin) / 1_000_000);
        out.putAll(extra);
        Out.print(out);
        total += calls;
        totalFailed += failed;
        clean &= failed == 0;
    }

    private static void expect(Object wanted, Object got) {
        if (wanted == null ? got != null : !wanted.equals(got)) throw new AssertionError("wanted " + wanted + ", got " + got);
    }
}

// SPDX-License-Identifier: Apache-2.0
package demo.app;

import demo.EchoService;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentSkipListMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;

/**
 * Calls at a steady rate for some seconds while the harness breaks things.
 *
 * <p>Prints a line when calls begin to fail and when they work again, and at the end all time ranges of failures and how many there were of each kind. A call
 * counts at the time it was made, in milliseconds since the epoch. Calls run on threads of their own, so that one which hangs
 * delays no other. A file given as {@code --stop-file} ends the loop early when it appears; with {@code --begin-file} calls count from
 * the moment on at which that one is there.
 */
final class Loop {
    private final Line line;
    private final Options options;
    private final ConcurrentSkipListMap<Long, String> failures = new ConcurrentSkipListMap<>();
    private final ConcurrentSkipListMap<String, AtomicInteger> answeredBy = new ConcurrentSkipListMap<>();
    private final ConcurrentSkipListMap<String, AtomicInteger> kinds = new ConcurrentSkipListMap<>();
    private final AtomicInteger made = new AtomicInteger();
    private final AtomicInteger open = new AtomicInteger();
    private final AtomicLong slowest = new AtomicLong();
    private final java.io.File beginFile;
    private volatile boolean counts;
    private boolean failing;

    Loop(Line line, Options options) {
        this.line = line;
        this.options = options;
        this.beginFile = options.text("begin-file") == null ? null : new java.io.File(options.text("begin-file"));
        this.counts = beginFile == null;
    }

    boolean run() throws Exception {
        List<EchoService> services = new ArrayList<>();
        for (Line.Ref ref : Consumer.refs(line, options)) services.add(line.get(ref.key));
        int turn = 0;
        long period = 1_000_000_000L / options.number("rate", 50);
        java.io.File stop = options.text("stop-file") == null ? null : new java.io.File(options.text("stop-file"));
        ExecutorService threads = Executors.newCachedThreadPool();
        long begin = System.currentTimeMillis();
        long next = System.nanoTime();
        long end = next + options.number("loop", 10) * 1_000_000_000L;
        while (System.nanoTime() < end && (stop == null || !stop.exists())) {
            LockSupport.parkNanos(next - System.nanoTime());
            if (System.nanoTime() < next) continue;
            next += period;
            // Far behind (all threads busy, or the machine slept): do not catch up with a burst.
            if (next < System.nanoTime() - 1_000_000_000L) next = System.nanoTime();
            if (open.get() > 400) continue;
            EchoService echo = services.get(turn++ % services.size());
            boolean counted = counts = counts || beginFile.exists();
            threads.execute(() -> call(echo, counted));
        }
        threads.shutdown();
        threads.awaitTermination(10, TimeUnit.SECONDS);
        Map<String, Object> out = new LinkedHashMap<>();
        out.put("event", "loop_end");
        out.put("calls", made.get());
        out.put("failed", failures.size());
        out.put("begin_ms", begin);
        out.put("end_ms", System.currentTimeMillis());
        out.put("slowest_ms", slowest.get());
        out.put("ranges", ranges());
        out.put("kinds", new TreeMap<>(kinds));
        out.put("answered_by", new TreeMap<>(answeredBy));
        Out.print(out);
        return failures.isEmpty();
    }

    private void call(EchoService echo, boolean counted) {
        open.incrementAndGet();
        long at = System.currentTimeMillis();
        String error = null;
        try {
            String who = echo.who();
            if (counted) answeredBy.computeIfAbsent(who, k -> new AtomicInteger()).incrementAndGet();
        } catch (Throwable t) {
            error = Out.brief(t);
            if (!counted) return;
            kinds.computeIfAbsent(kind(t), k -> new AtomicInteger()).incrementAndGet();
            long key = at;
            while (failures.putIfAbsent(key * 1000 + made.get() % 1000, error) != null) key++;
        } finally {
            open.decrementAndGet();
            if (counted) {
                made.incrementAndGet();
                slowest.accumulateAndGet(System.currentTimeMillis() - at, Math::max);
            }
        }
        turn(at, error);
    }

    /** The classes of a failure and its causes. */
    private static String kind(Throwable t) {
        String name = t.getClass().getSimpleName();
        return t.getCause() == null || t.getCause() == t ? name : name + " <- " + kind(t.getCause());
    }

    /** Prints when calls turn from good to bad or back. */
    private synchronized void turn(long at, String error) {
        if (failing == (error != null)) return;
        failing = error != null;
        Map<String, Object> out = new LinkedHashMap<>();
        out.put("event", failing ? "failing" : "working");
        out.put("at_ms", at);
        if (error != null) out.put("error", error);
        Out.print(out);
    }

    /** Failures less than 500 ms apart are one range. */
    private List<Map<String, Object>> ranges() {
        List<Map<String, Object>> ranges = new ArrayList<>();
        Map<String, Object> range = null;
        for (Map.Entry<Long, String> failure : failures.entrySet()) {
            long at = failure.getKey() / 1000;
            if (range == null || at - (Long) range.get("last_ms") > 500) {
                range = new LinkedHashMap<>();
                range.put("first_ms", at);
                range.put("last_ms", at);
                range.put("failed", 0);
                range.put("error", failure.getValue());
                ranges.add(range);
            }
            range.put("last_ms", at);
            range.put("failed", (Integer) range.get("failed") + 1);
        }
        return ranges;
    }
}

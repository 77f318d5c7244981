// SPDX-License-Identifier: Apache-2.0
package demo.app;

import demo.CallbackService;
import demo.EchoService;
import demo.LaterService;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * The calling side.
 *
 * <p>Options: {@code --calls N} (spread over the mix), {@code --mix echo,order,...} (see {@link Suite}), {@code --wait SECONDS}
 * (how long the first call may be retried), {@code --timeout MILLIS}, {@code --golden} (each kind of frame once, in a fixed
 * order), or {@code --loop SECONDS --rate CALLS_PER_SECOND} (see {@link Loop}), with {@code --many N} of so many services in turn. Retries are off, so that each failure is seen.
 */
final class Consumer {
    private final Line line;
    private final Options options;

    Consumer(Line line, Options options) {
        this.line = line;
        this.options = options;
    }

    static List<Line.Ref> refs(Line line, Options options) {
        String mix = options.flag("golden", false) ? line.mix() : options.text("mix", line.mix());
        if (options.text("loop") != null) mix = "echo";
        List<Line.Ref> refs = new ArrayList<>();
        for (int number = 0; number < options.number("many", 0); number++) {
            refs.add(new Line.Ref("many" + number, Provider.type(number), null, null, false));
        }
        if (!refs.isEmpty()) return refs;
        refs.add(new Line.Ref("plain", EchoService.class, null, null, false));
        if (mix.contains("later") || mix.contains("outoforder")) refs.add(new Line.Ref("later", LaterService.class, null, null, false));
        if (mix.contains("generic")) refs.add(new Line.Ref("generic", EchoService.class, null, null, true));
        if (mix.contains("variants")) {
            refs.add(new Line.Ref("g1", EchoService.class, "g1", "1.0.0", false));
            refs.add(new Line.Ref("v2", EchoService.class, null, "2.0.0", false));
        }
        // Within a group whose providers all have a version: for a provider without one a 2.6 consumer sends the "*" itself.
        if (mix.contains("wildcard")) refs.add(new Line.Ref("wildcard", EchoService.class, "g1", "*", false));
        // A version that no provider has: the capture script puts a wrong node into the registry.
        if (options.flag("golden", false)) refs.add(new Line.Ref("missing", EchoService.class, null, "9.9.9", false));
        if (mix.contains("callback")) refs.add(new Line.Ref("callback", CallbackService.class, null, null, false));
        for (String kind : mix.split(",")) {
            Line.Ref own = line.ref(kind);
            if (own != null) refs.add(own);
        }
        return refs;
    }

    /** True when no call failed. */
    boolean run() throws Exception {
        waitForProvider();
        if (options.text("loop") != null) return new Loop(line, options).run();
        if (options.flag("golden", false)) return new Suite(line, options).golden();
        return new Suite(line, options).run(options.list("mix", line.mix()));
    }

    /** With {@code --check false} the provider may come later; says how long the first answer of each service took. */
    private void waitForProvider() throws Exception {
        if (options.flag("golden", false) || options.text("wait") == null) return;
        long begin = System.currentTimeMillis();
        long until = begin + options.number("wait", 0) * 1000L;
        Map<String, Object> first = new LinkedHashMap<>();
        first.put("event", "first_answer");
        for (Line.Ref ref : refs(line, options)) {
            while (true) {
                try {
                    if (ref.generic) line.invoke(ref.key, "echo", new String[] {"java.lang.String"}, new Object[] {"probe"});
                    else line.probe(ref.key);
                    break;
                } catch (RuntimeException e) {
                    if (System.currentTimeMillis() > until) throw e;
                    Thread.sleep(100);
                }
            }
            first.put(ref.key + "_ms", System.currentTimeMillis() - begin);
        }
        first.put("after_ms", System.currentTimeMillis() - begin);
        Out.print(first);
    }
}

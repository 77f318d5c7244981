// SPDX-License-Identifier: Apache-2.0
package demo.app;

import demo.CallbackService;
import demo.EchoService;
import demo.LaterService;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.util.ArrayList;
import java.util.List;

/**
 * What a provider publishes.
 *
 * <p>Options: {@code --name p1} (told by {@code who()}), {@code --ports 20880,20890} (one dubbo:// each; the suite is on all,
 * the variants of EchoService on the last), {@code --services plain,g1,g1v2,v2,later,callback}, {@code --serialization NAME},
 * {@code --prefer-serialization NAME} (3.x), {@code --heartbeat MILLIS}, {@code --threads N}, {@code --many N} (so many services
 * beside these, spread over the ports).
 */
final class Provider {
    private Provider() {}

    static List<Line.Export> exports(Line line, Options options) {
        String name = options.text("name", "p1");
        int last = options.list("ports", "20880").length - 1;
        List<Line.Export> exports = new ArrayList<>();
        // Nothing else is published beside many, unless it is asked for.
        for (String service : options.list("services", options.number("many", 0) > 0 ? "" : line.services())) {
            switch (service) {
                case "plain":
                    exports.add(echo(line, name, null, null, -1));
                    break;
                case "g1":
                    exports.add(echo(line, name, "g1", "1.0.0", last));
                    break;
                case "g1v2":
                    exports.add(echo(line, name, "g1", "2.0.0", last));
                    break;
                case "v2":
                    exports.add(echo(line, name, null, "2.0.0", last));
                    break;
                case "later":
                    exports.add(new Line.Export(LaterService.class, line.laterService(), null, null, -1));
                    break;
                case "callback":
                    exports.add(new Line.Export(CallbackService.class, new EchoServiceImpl(line, name, null, null), null, null, 0));
                    break;
                default:
                    Line.Export own = line.export(service);
                    if (own == null) throw new IllegalArgumentException("no service " + service);
                    exports.add(own);
            }
        }
        for (int number = 0; number < options.number("many", 0); number++) exports.add(many(line, name, number, number % (last + 1)));
        return exports;
    }

    /** The echo service under another interface, of those that {@code harness/many.py} writes. */
    private static Line.Export many(Line line, String name, int number, int port) {
        Class<?> type = type(number);
        EchoService echo = new EchoServiceImpl(line, name, null, null);
        Object impl = Proxy.newProxyInstance(type.getClassLoader(), new Class<?>[] {type}, (proxy, method, args) -> {
            try {
                return method.invoke(echo, args);
            } catch (InvocationTargetException e) {
                throw e.getCause();
            }
        });
        return new Line.Export(type, impl, null, null, port);
    }

    static Class<?> type(int number) {
        try {
            return Class.forName(String.format("demo.many.Many%02d", number));
        } catch (ClassNotFoundException e) {
            throw new IllegalArgumentException("no such interface on the class path", e);
        }
    }

    private static Line.Export echo(Line line, String name, String group, String version, int port) {
        return new Line.Export(EchoService.class, new EchoServiceImpl(line, name, group, version), group, version, port);
    }
}

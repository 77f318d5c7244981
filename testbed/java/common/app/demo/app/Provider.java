// SPDX-License-Identifier: Apache-2.0
package demo.app;

import demo.CallbackService;
import demo.EchoService;
import demo.LaterService;
import java.util.ArrayList;
import java.util.List;

/**
 * What a provider publishes.
 *
 * <p>Options: {@code --name p1} (told by {@code who()}), {@code --ports 20880,20890} (one dubbo:// each; the suite is on all,
 * the variants of EchoService on the last), {@code --services plain,g1,g1v2,v2,later,callback}, {@code --serialization NAME},
 * {@code --prefer-serialization NAME} (3.x), {@code --heartbeat MILLIS}, {@code --threads N}.
 */
final class Provider {
    private Provider() {}

    static List<Line.Export> exports(Line line, Options options) {
        String name = options.text("name", "p1");
        int last = options.list("ports", "20880").length - 1;
        List<Line.Export> exports = new ArrayList<>();
        for (String service : options.list("services", line.services())) {
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
        return exports;
    }

    private static Line.Export echo(Line line, String name, String group, String version, int port) {
        return new Line.Export(EchoService.class, new EchoServiceImpl(line, name, group, version), group, version, port);
    }
}

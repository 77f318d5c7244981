// SPDX-License-Identifier: Apache-2.0
package demo.app;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;

/**
 * The demo application: {@code Main provider|consumer|both --registry zookeeper://host:port ...}.
 *
 * <p>Options of all Dubbo lines: {@code --app NAME --registry URL --register-mode instance|interface|all --metadata-type local|remote
 * --migration FORCE_INTERFACE|APPLICATION_FIRST|FORCE_APPLICATION --check false}, and
 * {@code --registry N/A --url dubbo://host:port} for none; of SOFARPC: see its {@code FrameworkLine}; of a provider: see {@link Provider};
 * of a consumer: see {@link Consumer}. A provider runs until SIGTERM; a consumer until its calls are made.
 */
public final class Main {
    private Main() {}

    public static void main(String[] args) throws Exception {
        int status = 0;
        try {
            Options options = new Options(java.util.Arrays.copyOfRange(args, 1, args.length));
            boolean provides = !args[0].equals("consumer");
            boolean consumes = !args[0].equals("provider");
            Line line = new FrameworkLine();
            List<Line.Export> exports = provides ? Provider.exports(line, options) : new ArrayList<>();
            List<Line.Ref> refs = consumes ? Consumer.refs(line, options) : new ArrayList<>();
            long begin = System.currentTimeMillis();
            line.start(options, exports, refs);
            Map<String, Object> ready = new LinkedHashMap<>();
            ready.put("event", "ready");
            ready.put("role", args[0]);
            ready.put("release", line.release());
            ready.put("start_ms", System.currentTimeMillis() - begin);
            Out.print(ready);
            if (!consumes) new CountDownLatch(1).await();
            status = new Consumer(line, options).run() ? 0 : 1;
            if (provides && !options.flag("exit", true)) new CountDownLatch(1).await();
            line.stop();
        } catch (Throwable t) {
            Map<String, Object> failed = new LinkedHashMap<>();
            failed.put("event", "broken");
            failed.put("error", Out.brief(t));
            Out.print(failed);
            System.err.println(Out.stack(t));
            status = 2;
        }
        System.exit(status);
    }
}

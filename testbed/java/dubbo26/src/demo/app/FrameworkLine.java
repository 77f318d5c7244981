// SPDX-License-Identifier: Apache-2.0
package demo.app;

import com.alibaba.dubbo.common.Version;
import com.alibaba.dubbo.config.ApplicationConfig;
import com.alibaba.dubbo.config.ArgumentConfig;
import com.alibaba.dubbo.config.MethodConfig;
import com.alibaba.dubbo.config.ProtocolConfig;
import com.alibaba.dubbo.config.ReferenceConfig;
import com.alibaba.dubbo.config.RegistryConfig;
import com.alibaba.dubbo.config.ServiceConfig;
import com.alibaba.dubbo.rpc.RpcContext;
import com.alibaba.dubbo.rpc.service.GenericService;
import demo.CallbackService;
import demo.EchoService;
import demo.LaterService;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Future;

/** Dubbo 2.6: no bootstrap; asynchronous calls are asked for by {@code async=true}. */
final class FrameworkLine implements Line {
    private final Map<String, Object> proxies = new HashMap<>();

    @Override
    public void start(Options options, List<Export> exports, List<Ref> wanted) {
        ApplicationConfig application = new ApplicationConfig(options.text("app", exports.isEmpty() ? "demo-consumer" : "demo-provider"));
        application.setQosEnable(false);
        List<RegistryConfig> registries = new ArrayList<>();
        for (String address : options.list("registry", "zookeeper://127.0.0.1:2181")) {
            RegistryConfig registry = new RegistryConfig(address);
            registry.setTimeout(20000);
            registry.setClient("curator");
            registries.add(registry);
        }

        List<ProtocolConfig> protocols = new ArrayList<>();
        for (String port : options.list("ports", "20880")) {
            ProtocolConfig protocol = new ProtocolConfig("dubbo", Integer.parseInt(port));
            if (options.text("serialization") != null) protocol.setSerialization(options.text("serialization"));
            if (options.text("heartbeat") != null) protocol.setHeartbeat(options.number("heartbeat", 0));
            if (options.text("threads") != null) protocol.setThreads(options.number("threads", 0));
            protocols.add(protocol);
        }
        for (Export export : exports) {
            ServiceConfig<Object> service = new ServiceConfig<>();
            service.setApplication(application);
            service.setRegistries(registries);
            service.setProtocols(export.port < 0 ? protocols : protocols.subList(export.port, export.port + 1));
            service.setInterface(export.type);
            service.setRef(export.impl);
            service.setGroup(export.group);
            service.setVersion(export.version);
            if (export.type == CallbackService.class) {
                ArgumentConfig argument = new ArgumentConfig();
                argument.setIndex(2);
                argument.setCallback(true);
                MethodConfig method = new MethodConfig();
                method.setName("watch");
                method.setArguments(Arrays.asList(argument));
                service.setMethods(Arrays.asList(method));
            }
            service.export();
        }
        for (Ref ref : wanted) {
            ReferenceConfig<Object> reference = new ReferenceConfig<>();
            reference.setApplication(application);
            reference.setRegistries(registries);
            reference.setInterface(ref.type);
            reference.setGroup(ref.group);
            reference.setVersion(ref.version);
            reference.setRetries(0);
            reference.setTimeout(options.number("timeout", 3000));
            reference.setCheck(options.flag("check", true));
            // One JVM may follow what it publishes itself: it shall go through the registry like any other.
            reference.setScope("remote");
            if (ref.generic) reference.setGeneric("true");
            if (options.text("url") != null) reference.setUrl(options.text("url"));
            MethodConfig method = new MethodConfig();
            if (ref.type == EchoService.class && !ref.generic) {
                method.setName("fire");
                method.setReturn(false);
                reference.setMethods(Arrays.asList(method));
            } else if (ref.type == LaterService.class) {
                method.setName("later");
                method.setAsync(true);
                reference.setMethods(Arrays.asList(method));
            }
            proxies.put(ref.key, reference.get());
        }
    }

    @Override
    @SuppressWarnings("unchecked")
    public <T> T get(String key) {
        return (T) proxies.get(key);
    }

    @Override
    public void probe(String key) {
        ((com.alibaba.dubbo.rpc.service.EchoService) proxies.get(key)).$echo("probe");
    }

    @Override
    public Object invoke(String key, String method, String[] types, Object[] args) {
        return ((GenericService) proxies.get(key)).$invoke(method, types, args);
    }

    @Override
    public CompletableFuture<String> later(String key, String text, int millis) {
        ((LaterService) proxies.get(key)).later(text, millis);
        Future<String> future = RpcContext.getContext().getFuture();
        return new CompletableFuture<String>() {
            @Override
            public String get(long time, java.util.concurrent.TimeUnit unit)
                    throws InterruptedException, java.util.concurrent.ExecutionException, java.util.concurrent.TimeoutException {
                return future.get(time, unit);
            }
        };
    }

    @Override
    public String peer() {
        return RpcContext.getContext().getRemoteAddressString();
    }

    @Override
    public Object laterService() {
        return (LaterService) (text, millis) -> {
            try {
                Thread.sleep(millis);
            } catch (InterruptedException e) {
                throw new IllegalStateException(e);
            }
            return text;
        };
    }

    @Override
    public String release() {
        return Version.getVersion();
    }

    @Override
    public void stop() {
        // Dubbo's own shutdown hook withdraws everything when the JVM ends.
    }
}

// SPDX-License-Identifier: Apache-2.0
package demo.app;

import demo.CallbackService;
import demo.EchoService;
import demo.LaterService;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import org.apache.dubbo.common.Version;
import org.apache.dubbo.config.ApplicationConfig;
import org.apache.dubbo.config.ArgumentConfig;
import org.apache.dubbo.config.MethodConfig;
import org.apache.dubbo.config.ProtocolConfig;
import org.apache.dubbo.config.ReferenceConfig;
import org.apache.dubbo.config.RegistryConfig;
import org.apache.dubbo.config.ServiceConfig;
import org.apache.dubbo.config.bootstrap.DubboBootstrap;
import org.apache.dubbo.rpc.RpcContext;
import org.apache.dubbo.rpc.service.GenericService;

/** Dubbo 2.7 and 3.x: the same configuration calls, through DubboBootstrap. */
final class FrameworkLine implements Line {
    private final Map<String, ReferenceConfig<Object>> refs = new HashMap<>();

    @Override
    public void start(Options options, List<Export> exports, List<Ref> wanted) {
        // What only some lines know is given as a property: the others ignore it.
        property("dubbo.application.register-mode", options.text("register-mode"));
        property("dubbo.protocol.prefer-serialization", options.text("prefer-serialization"));
        property("dubbo.application.service-discovery.migration", options.text("migration"));

        ApplicationConfig application = new ApplicationConfig(options.text("app", exports.isEmpty() ? "demo-consumer" : "demo-provider"));
        application.setQosEnable(false);
        if (options.text("metadata-type") != null) application.setMetadataType(options.text("metadata-type"));
        DubboBootstrap bootstrap = DubboBootstrap.getInstance().application(application);
        for (String address : options.list("registry", "zookeeper://127.0.0.1:2181")) {
            RegistryConfig registry = new RegistryConfig(address);
            registry.setTimeout(20000);
            bootstrap.registry(registry);
        }

        List<ProtocolConfig> protocols = new ArrayList<>();
        if (!exports.isEmpty()) {
            for (String port : options.list("ports", "20880")) {
                ProtocolConfig protocol = new ProtocolConfig(options.text("protocol", "dubbo"), Integer.parseInt(port));
                if (options.list("ports", "").length > 1) protocol.setId("p" + port);
                if (options.text("serialization") != null) protocol.setSerialization(options.text("serialization"));
                if (options.text("heartbeat") != null) protocol.setHeartbeat(options.number("heartbeat", 0));
                if (options.text("threads") != null) protocol.setThreads(options.number("threads", 0));
                protocols.add(protocol);
                bootstrap.protocol(protocol);
            }
        }
        for (Export export : exports) {
            ServiceConfig<Object> service = new ServiceConfig<>();
            // Without ids 2.7 keeps the first service only.
            service.setId(export.type.getSimpleName() + "-" + export.group + "-" + export.version);
            service.setInterface(export.type);
            service.setRef(export.impl);
            service.setGroup(export.group);
            service.setVersion(export.version);
            service.setProtocols(export.port < 0 ? protocols : protocols.subList(export.port, export.port + 1));
            if (export.type == CallbackService.class) {
                ArgumentConfig argument = new ArgumentConfig();
                argument.setIndex(2);
                argument.setCallback(true);
                MethodConfig method = new MethodConfig();
                method.setName("watch");
                method.setArguments(Arrays.asList(argument));
                service.setMethods(Arrays.asList(method));
            }
            bootstrap.service(service);
        }
        for (Ref ref : wanted) {
            ReferenceConfig<Object> reference = new ReferenceConfig<>();
            reference.setId(ref.key);
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
            if (ref.type == EchoService.class && !ref.generic) {
                MethodConfig fire = new MethodConfig();
                fire.setName("fire");
                fire.setReturn(false);
                reference.setMethods(new ArrayList<>(Arrays.asList(fire)));
            }
            refs.put(ref.key, reference);
            bootstrap.reference(reference);
        }
        bootstrap.start();
        for (ReferenceConfig<Object> reference : refs.values()) reference.get();
    }

    private static void property(String name, String value) {
        if (value != null) System.setProperty(name, value);
    }

    @Override
    @SuppressWarnings("unchecked")
    public <T> T get(String key) {
        return (T) refs.get(key).get();
    }

    @Override
    public void probe(String key) {
        ((org.apache.dubbo.rpc.service.EchoService) refs.get(key).get()).$echo("probe");
    }

    @Override
    public Object invoke(String key, String method, String[] types, Object[] args) {
        return ((GenericService) refs.get(key).get()).$invoke(method, types, args);
    }

    @Override
    public CompletableFuture<String> later(String key, String text, int millis) {
        return ((LaterService) refs.get(key).get()).later(text, millis);
    }

    @Override
    public String peer() {
        return RpcContext.getContext().getRemoteAddressString();
    }

    @Override
    public Object laterService() {
        return new LaterServiceImpl();
    }

    @Override
    public String release() {
        return Version.getVersion();
    }

    @Override
    public void stop() {
        DubboBootstrap.getInstance().stop();
    }
}

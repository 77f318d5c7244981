// SPDX-License-Identifier: Apache-2.0
package demo.app;

import com.alipay.hessian.generic.model.GenericObject;
import com.alipay.sofa.rpc.api.GenericService;
import com.alipay.sofa.rpc.api.future.SofaResponseFuture;
import com.alipay.sofa.rpc.common.Version;
import com.alipay.sofa.rpc.config.ApplicationConfig;
import com.alipay.sofa.rpc.config.ConsumerConfig;
import com.alipay.sofa.rpc.config.MethodConfig;
import com.alipay.sofa.rpc.config.ProviderConfig;
import com.alipay.sofa.rpc.config.RegistryConfig;
import com.alipay.sofa.rpc.config.ServerConfig;
import com.alipay.sofa.rpc.context.RpcInternalContext;
import com.alipay.sofa.rpc.context.RpcInvokeContext;
import com.alipay.sofa.rpc.context.RpcRuntimeContext;
import com.google.protobuf.StringValue;
import demo.DemoException;
import demo.EchoService;
import demo.LaterService;
import demo.ProtoService;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

/**
 * SOFARPC 5.x, by its plain API.
 *
 * <p>{@code --registry} is one or more of {@code zookeeper://host:port}, {@code mesh://host:port}, {@code sofa://host:port},
 * {@code local://FILE}. Further options: {@code --app NAME}, {@code --ports 12200}, {@code --host ADDRESS} (to listen on),
 * {@code --virtual-host ADDRESS --virtual-port PORT} (to publish instead), {@code --weight N}, {@code --serialization NAME},
 * {@code --parameters key=value,...} of the provider, {@code --url bolt://host:port} (no registry), {@code --check false}
 * (do not wait for an address), {@code --threads N}. Among {@code --services} may be {@code many7}: the echo service once
 * more, with that uniqueId.
 */
final class FrameworkLine implements Line {
    private static final String[] ORDER = {"demo.Order"};

    private final Map<String, Object> proxies = new HashMap<>();

    @Override
    public String services() {
        return "plain,u1,v2,later,protobuf";
    }

    @Override
    public String mix() {
        return "echo,order,checked,unchecked,oneway,later,outoforder,future,thrown,nothing,blob,generic,genericobject,protobuf,peer,baggage,uniqueid,version";
    }

    @Override
    public Export export(String service) {
        if (service.equals("u1")) return new Export(EchoService.class, new EchoServiceImpl(this, "p1", "u1", null), "u1", null, -1);
        if (service.matches("many\\d+")) {
            return new Export(EchoService.class, new EchoServiceImpl(this, service, service, null), service, null, -1);
        }
        if (!service.equals("protobuf")) return null;
        return new Export(ProtoService.class, (ProtoService) text -> StringValue.of(text.getValue()), null, null, -1);
    }

    @Override
    public Ref ref(String kind) {
        switch (kind) {
            case "future": return new Ref(kind, LaterService.class, null, null, false);
            case "uniqueid": return new Ref(kind, EchoService.class, "u1", null, false);
            case "version": return new Ref(kind, EchoService.class, null, "2.0.0", false);
            case "thrown": return new Ref(kind, EchoService.class, null, null, false);
            case "protobuf": return new Ref(kind, ProtoService.class, null, null, false);
            case "genericobject": return new Ref(kind, EchoService.class, null, null, true);
            default: return null;
        }
    }

    @Override
    public int share(String kind) {
        switch (kind) {
            case "uniqueid":
            case "version":
            case "future":
            case "protobuf": return 5;
            case "thrown":
            case "genericobject":
            case "baggage": return 2;
            default: return 0;
        }
    }

    @Override
    public void start(Options options, List<Export> exports, List<Ref> wanted) {
        System.setProperty("invoke.baggage.enable", "true");
        ApplicationConfig application = new ApplicationConfig()
                .setAppName(options.text("app", exports.isEmpty() ? "demo-consumer" : "demo-provider"));
        List<RegistryConfig> registries = new ArrayList<>();
        for (String address : options.list("registry", "zookeeper://127.0.0.1:2181")) registries.add(registry(address));

        List<ServerConfig> servers = new ArrayList<>();
        if (!exports.isEmpty()) {
            for (String port : options.list("ports", "12200")) {
                ServerConfig server = new ServerConfig().setProtocol("bolt").setPort(Integer.parseInt(port));
                if (options.text("host") != null) server.setHost(options.text("host"));
                if (options.text("virtual-host") != null) server.setVirtualHost(options.text("virtual-host"));
                if (options.text("virtual-port") != null) server.setVirtualPort(options.number("virtual-port", 0));
                if (options.text("threads") != null) server.setMaxThreads(options.number("threads", 0)).setCoreThreads(1);
                servers.add(server);
            }
        }
        for (Export export : exports) {
            ProviderConfig<Object> provider = new ProviderConfig<>();
            provider.setApplication(application);
            provider.setRegistry(registries);
            provider.setServer(export.port < 0 ? servers : servers.subList(export.port, export.port + 1));
            provider.setInterfaceId(export.type.getName());
            provider.setRef(export.impl);
            if (export.group != null) provider.setUniqueId(export.group);
            if (export.version != null) provider.setVersion(export.version);
            // Its check for doubles looks past the version.
            provider.setRepeatedExportLimit(-1);
            if (options.text("weight") != null) provider.setWeight(options.number("weight", 100));
            if (export.type == ProtoService.class) provider.setSerialization("protobuf");
            else if (options.text("serialization") != null) provider.setSerialization(options.text("serialization"));
            for (String pair : options.list("parameters", "")) {
                provider.setParameter(pair.substring(0, pair.indexOf('=')), pair.substring(pair.indexOf('=') + 1));
            }
            provider.export();
        }
        for (Ref ref : wanted) proxies.put(ref.key, follow(options, application, registries, ref));
    }

    private static RegistryConfig registry(String address) {
        int end = address.indexOf("://");
        String protocol = address.substring(0, end);
        String rest = address.substring(end + 3);
        RegistryConfig registry = new RegistryConfig().setProtocol(protocol);
        if (protocol.equals("local")) return registry.setFile(rest);
        return registry.setAddress(protocol.equals("mesh") ? "http://" + rest : rest);
    }

    private static Object follow(Options options, ApplicationConfig application, List<RegistryConfig> registries, Ref ref) {
        ConsumerConfig<Object> consumer = new ConsumerConfig<>();
        consumer.setApplication(application);
        if (options.text("url") != null) consumer.setDirectUrl(options.text("url"));
        else consumer.setRegistry(registries);
        consumer.setProtocol("bolt");
        consumer.setInterfaceId(ref.type.getName());
        if (ref.group != null) consumer.setUniqueId(ref.group);
        if (ref.version != null) consumer.setVersion(ref.version);
        consumer.setRepeatedReferLimit(-1);
        consumer.setGeneric(ref.generic);
        consumer.setRetries(0);
        consumer.setTimeout(options.number("timeout", 3000));
        // Registries answer later, on threads of their own: refer() returns when there is an address.
        consumer.setAddressWait(options.flag("check", true) ? 20000 : -1);
        // 5.6 asks a moment too early whether the address it has just got is alive, bare too (`AbstractCluster.init`).
        consumer.setCheck(false);
        // One JVM may follow what it publishes itself: it shall go through the registry like any other.
        consumer.setInJVM(false);
        if (ref.type == ProtoService.class) consumer.setSerialization("protobuf");
        else if (options.text("serialization") != null) consumer.setSerialization(options.text("serialization"));
        if (ref.key.equals("future")) consumer.setInvokeType("future");
        if (ref.key.equals("later") || ref.key.equals("thrown")) consumer.setInvokeType("callback");
        if (ref.type == EchoService.class && !ref.generic) {
            consumer.setMethods(new ArrayList<>(Arrays.asList(new MethodConfig().setName("fire").setInvokeType("oneway"))));
        }
        return consumer.refer();
    }

    @Override
    public void call(String kind, int number) throws Exception {
        String text = kind + "-" + number;
        Object got;
        switch (kind) {
            case "future":
                ((LaterService) get(kind)).later(text, 1);
                got = SofaResponseFuture.getResponse(5000, true);
                break;
            case "thrown":
                got = thrown(text);
                break;
            case "protobuf":
                got = ((ProtoService) get(kind)).echo(StringValue.of(text)).getValue();
                break;
            case "genericobject":
                GenericObject order = new GenericObject("demo.Order");
                order.putField("title", text);
                order.putField("hops", number);
                GenericObject back = (GenericObject) ((GenericService) get(kind)).$genericInvoke("order", ORDER, new Object[] {order});
                got = (int) back.getField("hops") == number + 1 ? back.getField("title") : "hops " + back.getField("hops");
                break;
            case "uniqueid":
            case "version":
                String who = ((EchoService) get(kind)).who();
                String tail = kind.equals("version") ? "/null/2.0.0" : "/u1/null";
                got = who.endsWith(tail) ? text : who;
                break;
            case "baggage":
                RpcInvokeContext.getContext().putRequestBaggage("note", text);
                EchoService echo = get("plain");
                echo.peer();
                got = RpcInvokeContext.getContext().getResponseBaggage("note");
                RpcInvokeContext.removeContext();
                break;
            default:
                throw new IllegalArgumentException(kind);
        }
        if (!text.equals(got)) throw new AssertionError("wanted " + text + ", got " + got);
    }

    /** Callback invocation of a method that throws: the exception reaches the callback. */
    private Object thrown(String text) throws Exception {
        Answer answer = new Answer();
        RpcInvokeContext.getContext().setResponseCallback(answer);
        EchoService echo = get("thrown");
        echo.checked(text);
        try {
            return "answer " + answer.get(5, TimeUnit.SECONDS);
        } catch (java.util.concurrent.ExecutionException e) {
            DemoException cause = (DemoException) e.getCause();
            return cause.getCode() == 42 ? cause.getMessage() : "code " + cause.getCode();
        }
    }

    @Override
    @SuppressWarnings("unchecked")
    public <T> T get(String key) {
        return (T) proxies.get(key);
    }

    @Override
    public void probe(String key) {
        Object proxy = proxies.get(key);
        if (key.equals("thrown")) later(key, () -> ((EchoService) proxy).who()).join();
        else if (key.equals("later")) later(key, "probe", 0).join();
        else if (key.equals("future")) ((LaterService) proxy).later("probe", 0);
        else if (proxy instanceof ProtoService) ((ProtoService) proxy).echo(StringValue.of("probe"));
        else ((EchoService) proxy).who();
    }

    @Override
    public Object invoke(String key, String method, String[] types, Object[] args) {
        return ((GenericService) get(key)).$invoke(method, types, args);
    }

    /** By callback invocation: the call returns at once, the answer comes on a thread of SOFARPC. */
    @Override
    public CompletableFuture<String> later(String key, String text, int millis) {
        LaterService service = get(key);
        return later(key, () -> service.later(text, millis));
    }

    private static CompletableFuture<String> later(String key, Runnable call) {
        Answer answer = new Answer();
        RpcInvokeContext.getContext().setResponseCallback(answer);
        call.run();
        return answer;
    }

    @Override
    public String peer() {
        RpcInvokeContext context = RpcInvokeContext.getContext();
        if (context.getRequestBaggage("note") != null) context.putResponseBaggage("note", context.getRequestBaggage("note"));
        java.net.InetSocketAddress peer = RpcInternalContext.getContext().getRemoteAddress();
        return peer.getHostString() + ":" + peer.getPort();
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
        return Version.VERSION;
    }

    @Override
    public void stop() {
        RpcRuntimeContext.destroy();
    }
}

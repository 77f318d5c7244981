// SPDX-License-Identifier: Apache-2.0
package demo.registry;

import com.alipay.sofa.registry.client.api.ConfigDataObserver;
import com.alipay.sofa.registry.client.api.Configurator;
import com.alipay.sofa.registry.client.api.Publisher;
import com.alipay.sofa.registry.client.api.Register;
import com.alipay.sofa.registry.client.api.Subscriber;
import com.alipay.sofa.registry.client.api.SubscriberDataObserver;
import com.alipay.sofa.registry.client.api.model.ConfigData;
import com.alipay.sofa.registry.client.api.model.UserData;
import com.alipay.sofa.registry.client.api.registration.ConfiguratorRegistration;
import com.alipay.sofa.registry.client.api.registration.PublisherRegistration;
import com.alipay.sofa.registry.client.api.registration.SubscriberRegistration;
import com.alipay.sofa.registry.client.provider.AbstractInternalRegister;
import com.alipay.sofa.registry.client.provider.DefaultRegistryClient;
import com.alipay.sofa.registry.client.provider.DefaultRegistryClientConfig;
import com.alipay.sofa.registry.client.provider.DefaultRegistryClientConfigBuilder;
import com.alipay.sofa.registry.core.model.ScopeEnum;
import java.io.BufferedReader;
import java.io.FileInputStream;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/**
 * One registry client that does what it is told, one command a line: `java demo.registry.Driver HOST:PORT [COMMANDS]`, where
 * COMMANDS is a file or a pipe (standard input by default). Words of a line are separated by tabs. Events come out as JSON.
 *
 * <pre>
 * pub KEY DATAID GROUP LINE...       republish KEY LINE...     many KEY DATAID GROUP COUNT
 * sub KEY DATAID GROUP SCOPE         conf KEY DATAID GROUP     drop KEY (unregister)
 * state                              sleep MILLIS              quit
 * </pre>
 */
public final class Driver {
    private final DefaultRegistryClient client;
    private final Map<String, Register> known = new LinkedHashMap<>();

    private Driver(String host, int port, String app) {
        DefaultRegistryClientConfig config = DefaultRegistryClientConfigBuilder.start().setAppName(app)
            .setDataCenter("DefaultDataCenter").setZone("DEFAULT_ZONE").setRegistryEndpoint(host)
            .setRegistryEndpointPort(port).build();
        client = new DefaultRegistryClient(config);
        client.init();
    }

    public static void main(String[] args) throws Exception {
        String[] where = args[0].split(":");
        Driver driver = new Driver(where[0], Integer.parseInt(where[1]), System.getProperty("demo.app", "demo-app"));
        say("ready", "", "");
        driver.watch();
        InputStream from = args.length > 1 ? new FileInputStream(args[1]) : System.in;
        BufferedReader commands = new BufferedReader(new InputStreamReader(from, StandardCharsets.UTF_8));
        for (String line = commands.readLine(); line != null; line = commands.readLine()) {
            String[] words = line.split("\t");
            if (words[0].equals("quit")) {
                break;
            }
            try {
                driver.obey(words);
            } catch (RuntimeException e) {
                say("broken", words.length > 1 ? words[1] : "", ",\"error\":" + quoted(e.toString()));
            }
        }
        System.exit(0);
    }

    private void obey(String[] words) throws InterruptedException {
        switch (words[0]) {
            case "pub":
                publish(words[1], words[2], words[3], rest(words, 4));
                break;
            case "many":
                List<String> lines = new ArrayList<>();
                for (int i = 0; i < Integer.parseInt(words[4]); i++) {
                    lines.add("10.77." + (i >> 8) + "." + (i & 255) + ":12200?weight=100&p=1&v=4.0");
                }
                publish(words[1], words[2], words[3], lines.toArray(new String[0]));
                break;
            case "republish":
                ((Publisher) register(words[1])).republish(rest(words, 2));
                break;
            case "sub":
                subscribe(words[1], words[2], words[3], ScopeEnum.valueOf(words[4]));
                break;
            case "conf":
                configure(words[1], words[2], words[3]);
                break;
            case "drop":
                register(words[1]).unregister();
                break;
            case "sleep":
                Thread.sleep(Long.parseLong(words[1]));
                break;
            case "state":
                for (Map.Entry<String, Register> one : copy().entrySet()) {
                    say("state", one.getKey(), stateOf(one.getValue()));
                }
                break;
            default:
                throw new IllegalArgumentException("unknown command " + words[0]);
        }
    }

    private static String[] rest(String[] words, int from) {
        return Arrays.copyOfRange(words, from, words.length);
    }

    private synchronized Register register(String key) {
        return known.get(key);
    }

    private synchronized Map<String, Register> copy() {
        return new LinkedHashMap<>(known);
    }

    private synchronized void remember(String key, Register register) {
        known.put(key, register);
        say("made", key, ",\"registId\":" + quoted(register.getRegistId()));
    }

    private void publish(String key, String dataId, String group, String... lines) {
        PublisherRegistration registration = new PublisherRegistration(dataId);
        registration.setGroup(group);
        remember(key, client.register(registration, lines));
    }

    private void subscribe(final String key, String dataId, String group, ScopeEnum scope) {
        SubscriberRegistration registration = new SubscriberRegistration(dataId, new SubscriberDataObserver() {
            @Override
            public void handleData(String id, UserData data) {
                StringBuilder zones = new StringBuilder();
                int count = 0;
                for (Map.Entry<String, List<String>> zone : new TreeMap<>(data.getZoneData()).entrySet()) {
                    zones.append(zones.length() > 0 ? "," : "").append(quoted(zone.getKey())).append(":[");
                    for (int i = 0; i < zone.getValue().size(); i++) {
                        zones.append(i > 0 ? "," : "").append(quoted(zone.getValue().get(i)));
                    }
                    zones.append(']');
                    count += zone.getValue().size();
                }
                say("data", key, ",\"localZone\":" + quoted(data.getLocalZone()) + ",\"count\":" + count + ",\"zones\":{" + zones + "}");
            }
        });
        registration.setGroup(group);
        registration.setScopeEnum(scope);
        remember(key, client.register(registration));
    }

    private void configure(final String key, String dataId, String group) {
        ConfiguratorRegistration registration = new ConfiguratorRegistration(dataId, new ConfigDataObserver() {
            @Override
            public void handleData(String id, ConfigData data) {
                say("config", key, ",\"data\":" + quoted(data.getData()));
            }
        });
        registration.setGroup(group);
        remember(key, client.register(registration));
    }

    /** Tells when a registration becomes, or is no longer, acknowledged. */
    private void watch() {
        Thread thread = new Thread(() -> {
            Map<String, String> told = new LinkedHashMap<>();
            while (true) {
                for (Map.Entry<String, Register> one : copy().entrySet()) {
                    String state = stateOf(one.getValue());
                    if (!state.equals(told.put(one.getKey(), state))) {
                        say("change", one.getKey(), state);
                    }
                }
                try {
                    Thread.sleep(5);
                } catch (InterruptedException e) {
                    return;
                }
            }
        });
        thread.setDaemon(true);
        thread.start();
    }

    private static String stateOf(Register register) {
        AbstractInternalRegister inner = (AbstractInternalRegister) register;
        return ",\"done\":" + inner.isDone() + ",\"registered\":" + inner.isRegistered() + ",\"enabled\":" + inner.isEnabled()
            + ",\"refused\":" + inner.toString().contains("refused=true") + ",\"version\":" + inner.getPubVersion().get();
    }

    private static synchronized void say(String event, String key, String more) {
        System.out.println("{\"event\":\"" + event + "\",\"at\":" + System.currentTimeMillis() + ",\"key\":" + quoted(key) + more + "}");
        System.out.flush();
    }

    private static String quoted(String text) {
        if (text == null) {
            return "null";
        }
        StringBuilder out = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') {
                out.append('\\').append(c);
            } else if (c < 0x20 || c > 0x7e) {
                out.append(String.format("\\u%04x", (int) c));
            } else {
                out.append(c);
            }
        }
        return out.append('"').toString();
    }
}

// SPDX-License-Identifier: Apache-2.0
package demo.app;

import demo.CallbackService;
import demo.DemoException;
import demo.EchoListener;
import demo.EchoService;
import demo.Order;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentMap;
import java.util.concurrent.atomic.AtomicInteger;

final class EchoServiceImpl implements EchoService, CallbackService {
    private final Line line;
    private final String who;
    private final ConcurrentMap<String, AtomicInteger> fired = new ConcurrentHashMap<>();

    EchoServiceImpl(Line line, String name, String group, String version) {
        this.line = line;
        this.who = name + "/" + group + "/" + version;
    }

    @Override
    public String echo(String text) {
        return text;
    }

    @Override
    public String who() {
        return who;
    }

    @Override
    public Order order(Order order) {
        order.setHops(order.getHops() + 1);
        return order;
    }

    @Override
    public String checked(String text) throws DemoException {
        throw new DemoException(text, 42);
    }

    @Override
    public String unchecked(String text) {
        throw new IllegalStateException(text);
    }

    @Override
    public void fire(String key) {
        fired.computeIfAbsent(key, k -> new AtomicInteger()).incrementAndGet();
    }

    @Override
    public int fired(String key) {
        AtomicInteger count = fired.get(key);
        return count == null ? 0 : count.get();
    }

    @Override
    public String nothing() {
        return null;
    }

    @Override
    public String slow(String text, int millis) {
        try {
            Thread.sleep(millis);
        } catch (InterruptedException e) {
            throw new IllegalStateException(e);
        }
        return text;
    }

    @Override
    public byte[] blob(byte[] bytes) {
        return bytes;
    }

    @Override
    public String peer() {
        return line.peer();
    }

    @Override
    public String watch(String key, int times, EchoListener listener) {
        Thread caller = new Thread(() -> {
            for (int i = 0; i < times; i++) listener.changed(key + "-" + i);
        }, "callback-" + key);
        caller.setDaemon(true);
        caller.start();
        return key;
    }
}

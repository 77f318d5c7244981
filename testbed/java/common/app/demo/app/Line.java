// SPDX-License-Identifier: Apache-2.0
package demo.app;

import java.util.List;
import java.util.concurrent.CompletableFuture;

/** What differs between the Dubbo lines. Each module has one {@code DubboLine} which implements it. */
public interface Line {
    /** A service to publish. */
    final class Export {
        final Class<?> type;
        final Object impl;
        final String group;
        final String version;
        /** Index into the ports of the provider, or -1 for all of them. */
        final int port;

        Export(Class<?> type, Object impl, String group, String version, int port) {
            this.type = type;
            this.impl = impl;
            this.group = group;
            this.version = version;
            this.port = port;
        }
    }

    /** A service to follow. */
    final class Ref {
        final String key;
        final Class<?> type;
        final String group;
        final String version;
        final boolean generic;

        Ref(String key, Class<?> type, String group, String version, boolean generic) {
            this.key = key;
            this.type = type;
            this.group = group;
            this.version = version;
            this.generic = generic;
        }
    }

    /** Publishes and follows; returns when the registry has taken both. */
    void start(Options options, List<Export> exports, List<Ref> refs) throws Exception;

    /** The proxy of a {@link Ref}, by its key. */
    <T> T get(String key);

    /** Calls {@code $echo} of a {@link Ref}: returns when some provider answers, throws when none does. */
    void probe(String key);

    /** Calls through the generic service of a {@link Ref}. */
    Object invoke(String key, String method, String[] types, Object[] args);

    /** Calls {@code LaterService.later} of a {@link Ref} without waiting. */
    CompletableFuture<String> later(String key, String text, int millis);

    /** Inside a provider's method: the address of the caller. */
    String peer();

    /** The implementation of {@code LaterService}. */
    Object laterService();

    /** The Dubbo release. */
    String release();

    void stop();
}

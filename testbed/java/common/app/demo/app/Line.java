// SPDX-License-Identifier: Apache-2.0
package demo.app;

import java.util.List;
import java.util.concurrent.CompletableFuture;

/** What differs between the lines of Dubbo and SOFARPC. Each module has one {@code FrameworkLine} which implements it. */
public interface Line {
    /** A service to publish. */
    final class Export {
        final Class<?> type;
        final Object impl;
        /** Dubbo's group, SOFARPC's uniqueId. */
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

    /** What a provider publishes when it is not told by {@code --services}; see {@link Provider}. */
    default String services() {
        return "plain,g1,g1v2,v2,later,callback";
    }

    /** The kinds of call that a consumer makes when it is not told by {@code --mix}; see {@link Suite}. */
    default String mix() {
        return "echo,order,checked,unchecked,oneway,later,outoforder,nothing,blob,generic,peer,variants,wildcard,callback";
    }

    /** A service that only this framework has; null when it has none of that name. */
    default Export export(String service) {
        return null;
    }

    /** What a kind of call that only this framework has needs to follow; null for nothing of its own. */
    default Ref ref(String kind) {
        return null;
    }

    /** Calls in a hundred of a kind that only this framework has; 0 when there is no such kind. */
    default int share(String kind) {
        return 0;
    }

    /** One call of a kind that only this framework has; throws when the answer is not the expected one. */
    default void call(String kind, int number) throws Exception {
        throw new IllegalArgumentException(kind);
    }

    /** Publishes and follows; returns when the registry has taken both. */
    void start(Options options, List<Export> exports, List<Ref> refs) throws Exception;

    /** The proxy of a {@link Ref}, by its key. */
    <T> T get(String key);

    /** Calls something of a {@link Ref}, {@code $echo} in Dubbo: returns when some provider answers, throws when none does. */
    void probe(String key);

    /** Calls through the generic service of a {@link Ref}. */
    Object invoke(String key, String method, String[] types, Object[] args);

    /** Calls {@code LaterService.later} of a {@link Ref} without waiting. */
    CompletableFuture<String> later(String key, String text, int millis);

    /** Inside a provider's method: the address of the caller. */
    String peer();

    /** The implementation of {@code LaterService}. */
    Object laterService();

    /** The framework's release. */
    String release();

    void stop();
}

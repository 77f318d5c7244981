// SPDX-License-Identifier: Apache-2.0
package demo;

import java.util.concurrent.CompletableFuture;

/** Answered later, with a future on both sides. On the wire it is the same method as Dubbo 2.6's. */
public interface LaterService {
    CompletableFuture<String> later(String text, int millis);
}

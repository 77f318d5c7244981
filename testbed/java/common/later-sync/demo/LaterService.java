// SPDX-License-Identifier: Apache-2.0
package demo;

/** Answered later. Dubbo 2.6 has no futures in interfaces: its consumer asks with {@code async=true}. */
public interface LaterService {
    String later(String text, int millis);
}

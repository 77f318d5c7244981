// SPDX-License-Identifier: Apache-2.0
package demo;

/** The provider calls the consumer back over the consumer's own connection. */
public interface CallbackService {
    /** Calls {@code listener} {@code times} times with {@code key-0}, {@code key-1}, ... and gives back {@code key}. */
    String watch(String key, int times, EchoListener listener);
}

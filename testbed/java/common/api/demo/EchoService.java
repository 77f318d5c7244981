// SPDX-License-Identifier: Apache-2.0
package demo;

/** The suite that every consumer calls; the answers are fixed by the arguments, so that a consumer can check them. */
public interface EchoService {
    /** Gives back {@code text}. */
    String echo(String text);

    /** Which provider answered, and which variant: {@code name/group/version}. */
    String who();

    /** Gives back the order with {@code hops} raised by one; the cycle inside must come back as a cycle. */
    Order order(Order order);

    /** Throws a checked exception which carries {@code text}. */
    String checked(String text) throws DemoException;

    /** Throws an {@code IllegalStateException} which carries {@code text}. */
    String unchecked(String text);

    /** One-way when the consumer says so; counted by {@link #fired}. */
    void fire(String key);

    /** How many {@link #fire} calls with this key arrived. */
    int fired(String key);

    /** Gives back null. */
    String nothing();

    /** Gives back {@code text} after {@code millis}. */
    String slow(String text, int millis);

    /** Gives back the bytes. */
    byte[] blob(byte[] bytes);

    /** The address of the peer as the provider sees it. */
    String peer();
}

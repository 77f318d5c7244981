// SPDX-License-Identifier: Apache-2.0
package golden;

import java.io.Serializable;
import java.util.Date;
import java.util.List;
import java.util.Map;

/** Classes to be written. */
final class Model {
    enum Color { RED, BLUE { @Override public String toString() { return "blue"; } } }

    static class Order implements Serializable {
        String id;
        long amount = 5_000_000_000L;
        Integer quantity;
        Date at = new Date(0);
        Map<String, Object> extra;
        List<Order> parts;
        Order next;
        Color color = Color.RED;
        byte[] raw = {1, 2, 3};
        transient String secret = "not written";

        Order(String id) {
            this.id = id;
        }
    }

    static class Base implements Serializable {
        String name = "base";
        int level = 1;
    }

    static class Derived extends Base {
        double weight = 1.5;
        boolean isOpen = true;
    }

    static class Empty implements Serializable {
    }

    static class Refused extends RuntimeException {
        int code = 42;

        Refused(String message, Throwable cause) {
            super(message, cause);
        }
    }

    static class C00 implements Serializable { int v; }
    static class C01 implements Serializable { int v; }
    static class C02 implements Serializable { int v; }
    static class C03 implements Serializable { int v; }
    static class C04 implements Serializable { int v; }
    static class C05 implements Serializable { int v; }
    static class C06 implements Serializable { int v; }
    static class C07 implements Serializable { int v; }
    static class C08 implements Serializable { int v; }
    static class C09 implements Serializable { int v; }
    static class C10 implements Serializable { int v; }
    static class C11 implements Serializable { int v; }
    static class C12 implements Serializable { int v; }
    static class C13 implements Serializable { int v; }
    static class C14 implements Serializable { int v; }
    static class C15 implements Serializable { int v; }
    static class C16 implements Serializable { int v; }
    static class C17 implements Serializable { int v; }
}

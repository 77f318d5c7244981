// SPDX-License-Identifier: Apache-2.0
package golden;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Bodies of whole calls, value by value as {@code DubboCodec} of Dubbo 2.7 and 3 writes them. */
final class DubboCalls {
    static void write(Golden golden) throws Exception {
        Model.Order order = new Model.Order("o1");
        order.next = order;
        order.extra = new HashMap<>();
        order.extra.put("k", 1.5);

        request(golden, "call-request-no-arguments", "ping", "", new Object[0], attachments());
        request(golden, "call-request-string", "sayHello", "Ljava/lang/String;", new Object[] {"w\u00f6rld"}, attachments());
        request(golden, "call-request-order", "place", "Lgolden/Model$Order;Ljava/util/List;[Ljava/lang/String;IJ",
                new Object[] {order, new ArrayList<>(List.of(order, new Model.Order("o2"))), new String[] {"a", "b"}, 7, 8L},
                attachments());
        request(golden, "call-request-generic", "$invoke", "Ljava/lang/String;[Ljava/lang/String;[Ljava/lang/Object;",
                new Object[] {"place", new String[] {"demo.Order"}, new Object[] {order.extra}}, attachments());
        Map<String, Object> rich = attachments();
        rich.put("order", order);
        rich.put("timeout", 3000);
        rich.put("deadline", 3_000_000_000L);
        rich.put("tags", new ArrayList<>(List.of("x", "y")));
        rich.put("emoji", "\ud83d\ude00");
        request(golden, "call-request-rich-attachments", "place", "Lgolden/Model$Order;", new Object[] {order}, rich);
        request(golden, "call-request-null-attachments", "ping", "", new Object[0], null);
        request(golden, "call-request-linked-attachments", "ping", "", new Object[0], new LinkedHashMap<>(attachments()));
        StringBuilder text = new StringBuilder();
        for (int i = 0; text.length() < 700; i++) {
            text.append("line ").append(i).append(' ');
        }
        request(golden, "call-request-1k", "sayHello", "Ljava/lang/String;", new Object[] {text.toString()}, attachments());

        Map<String, Object> back = new HashMap<>();
        back.put("dubbo", "2.0.2");
        RuntimeException error = new RuntimeException("boom");
        error.setStackTrace(new StackTraceElement[] {new StackTraceElement("demo.Shop", "buy", "Shop.java", 17)});
        Out out = golden.out();
        golden.save("call-response-value", "4, \"hello\", {dubbo=2.0.2}", List.of(),
                out.number(4).object("hello").object(back).bytes());
        out = golden.out();
        golden.save("call-response-null", "5, {dubbo=2.0.2}", List.of(), out.number(5).object(back).bytes());
        out = golden.out();
        golden.save("call-response-exception", "3, RuntimeException, {dubbo=2.0.2}", List.of(),
                out.number(3).object(error).object(back).bytes());
        out = golden.out();
        golden.save("call-response-old-value", "1, Order", List.of(), out.number(1).object(order).bytes());
        out = golden.out();
        golden.save("call-response-old-null", "2", List.of(), out.number(2).bytes());
    }

    private static Map<String, Object> attachments() {
        Map<String, Object> map = new HashMap<>();
        map.put("path", "demo.HelloWorld");
        map.put("interface", "demo.HelloWorld");
        map.put("version", "1.0.0");
        map.put("group", "blue");
        map.put("timeout", "3000");
        map.put("remote.application", "shop");
        return map;
    }

    private static void request(Golden golden, String name, String method, String descriptor, Object[] arguments,
                                Map<String, Object> attachments) throws Exception {
        Out out = golden.out();
        out.string("2.0.2").string("demo.HelloWorld").string("1.0.0").string(method).string(descriptor);
        for (Object argument : arguments) {
            out.object(argument);
        }
        out.object(attachments);
        golden.save(name, "a request of " + method + "(" + descriptor + ")", List.of(), out.bytes());
    }
}

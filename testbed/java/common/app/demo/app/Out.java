// SPDX-License-Identifier: Apache-2.0
package demo.app;

import java.io.PrintWriter;
import java.io.StringWriter;
import java.util.Map;

/** One JSON object per line on standard output: all that the harness reads. */
final class Out {
    private Out() {}

    static synchronized void print(Map<String, ?> fields) {
        System.out.println(json(fields));
        System.out.flush();
    }

    private static String json(Object value) {
        if (value == null || value instanceof Number || value instanceof Boolean) return String.valueOf(value);
        StringBuilder out = new StringBuilder();
        if (value instanceof Map) {
            for (Map.Entry<?, ?> e : ((Map<?, ?>) value).entrySet()) {
                out.append(out.length() == 0 ? "{" : ", ").append(json(e.getKey().toString())).append(": ").append(json(e.getValue()));
            }
            return out.length() == 0 ? "{}" : out.append("}").toString();
        }
        if (value instanceof Iterable) {
            for (Object e : (Iterable<?>) value) out.append(out.length() == 0 ? "[" : ", ").append(json(e));
            return out.length() == 0 ? "[]" : out.append("]").toString();
        }
        out.append('"');
        for (char c : value.toString().toCharArray()) {
            if (c == '"' || c == '\\') out.append('\\').append(c);
            else if (c < 0x20 || c > 0x7e) out.append(String.format("\\u%04x", (int) c));
            else out.append(c);
        }
        return out.append('"').toString();
    }

    /** A throwable in one line: its causes, each cut to 240 letters. */
    static String brief(Throwable t) {
        StringBuilder out = new StringBuilder();
        for (Throwable c = t; c != null && out.length() < 900; c = c.getCause() == c ? null : c.getCause()) {
            String text = c.getClass().getName() + ": " + c.getMessage();
            out.append(out.length() == 0 ? "" : " <- ").append(text, 0, Math.min(text.length(), 240));
        }
        return out.toString();
    }

    static String stack(Throwable t) {
        StringWriter text = new StringWriter();
        t.printStackTrace(new PrintWriter(text));
        return text.toString();
    }
}
